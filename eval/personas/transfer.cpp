#include "eval/personas/transfer.h"

#include <algorithm>
#include <functional>
#include <list>
#include <memory>

#include "eval/answers/injection.h"
#include "eval/conditions/controls.h"
#include "eval/geometry/kept_lines.h"
#include "eval/items/block.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;
using Give = std::function<Given(Block&, size_t)>;

constexpr const char* kTranslated = "translated";

// One text with one prompt, or one question of self-recognition.
struct Place {
  WrittenAnswer at;
  int64_t question = -1;
};

// Items keep pointers to their probes, so these never move.
struct Planned {
  std::list<Probe> probes;
  std::vector<Item> items;
  std::map<const Probe*, Place> places;
};

class Work {
 public:
  explicit Work(const TransferInput& input)
      : in_(input), kept_(input.file, fingerprint(), input.resume) {}

  TransferResult run() {
    const bool translates = in_.projector != nullptr;
    std::vector<std::pair<std::string, Give>> conditions = {{"full_text", full_text()}};
    if (translates) {
      conditions.emplace_back(kTranslated, translated());
      noise_ = make_noise({kTranslated, in_.projector});
      conditions.emplace_back("noise", [this](Block& b, size_t i) { return noise_->give(b, i); });
    }
    const Planned personas = plan(in_.texts.personas, in_.texts.personas.size(), "persona"),
                  topics = plan(in_.texts.topics, in_.texts.personas.size(), "topic");
    const auto without = [](Block& b, size_t i) { return as_text(b, i, {}); };
    if (in_.options.recognition) {
      recognise(questions_of(personas), conditions, without);
      if (translates) recognise(questions_of(topics), {{"neutral_topic", translated()}}, without);
    }
    if (translates) {
      write(prompts_of(personas), conditions);
      write(prompts_of(topics), {{"neutral_topic", translated()}});
      write_baseline(prompts_of(personas), without);
    }
    return std::move(result_);
  }

 private:
  std::string fingerprint() const {
    Sha256 hash;
    hash.update(cat("transfer 1|", in_.fingerprint, "|", in_.options.new_tokens, "|",
                    in_.options.batch_size, "|", in_.options.recognition));
    for (const auto* kind : {&in_.texts.personas, &in_.texts.topics})
      for (const auto& texts : *kind)
        for (const std::string& text : texts) hash.update("|" + text);
    for (const PromptGroup& group : in_.design.groups)
      for (const std::string& text : group.prompts) hash.update("|" + text);
    for (const Recognition& r : in_.design.recognition)
      hash.update(cat("|", r.prompt, "|", r.beginning));
    for (const Persona& p : in_.design.personas) hash.update("|" + p.label);
    return hash.hex();
  }

  static Give full_text() {
    return [](Block& b, size_t i) { return as_text(b, i, b.item(i).span); };
  }
  Give translated() const {
    const Projector* projector = in_.projector;
    return [projector](Block& b, size_t i) {
      return after_span(b, i, b.translated(kTranslated, *projector, i), "translated");
    };
  }

  void add(Planned& to, Probe probe, Place place, const std::string& beginning) {
    to.probes.push_back(std::move(probe));
    const Probe& kept = to.probes.back();
    try {
      Item item = make_item(kept, in_.source, in_.target, in_.alignment,
                            std::max<int64_t>(in_.options.new_tokens, 32));
      if (!beginning.empty()) {
        const std::vector<int64_t> more = in_.target.encode(beginning);
        for (auto* rest : {&item.rest, &item.rest_alone})
          rest->insert(rest->end(), more.begin(), more.end());
      }
      to.items.push_back(std::move(item));
      to.places.emplace(&kept, place);
    } catch (const Error& error) {
      result_.failed.push_back(error.what());
    }
  }

  // Every text with every prompt and every question; a topic stands for the persona of its number.
  Planned plan(const std::vector<std::vector<std::string>>& kinds, size_t most,
               const std::string& what) {
    Planned out;
    for (size_t k = 0; k < std::min(kinds.size(), most); ++k)
      for (size_t w = 0; w < kinds[k].size(); ++w) {
        const auto probe = [&](const std::string& id, const std::string& prompt) {
          Probe p;
          p.id = cat(what, "/", k + 1, "/", w + 1, "/", id);
          p.family = what;
          p.context = kinds[k][w];
          p.prompt = prompt;
          p.markers = {cat(what, " ", k + 1)};  // who is another's partner
          return p;
        };
        const auto label = static_cast<int64_t>(k), wording = static_cast<int64_t>(w);
        int64_t number = 0;
        for (size_t g = 0; g < in_.design.groups.size(); ++g)
          for (const std::string& text : in_.design.groups[g].prompts) {
            add(out, probe(cat(number + 1), text),
                {{label, wording, static_cast<int64_t>(g), number, {}}}, {});
            ++number;
          }
        for (size_t q = 0; q < in_.design.recognition.size(); ++q)
          add(out, probe(cat("who", q + 1), in_.design.recognition[q].prompt),
              {{label, wording, 0, 0, {}}, static_cast<int64_t>(q)},
              in_.design.recognition[q].beginning);
      }
    return out;
  }

  struct Chosen {
    const Planned* plan;
    std::vector<Item> items;
  };
  static Chosen chosen(const Planned& from, bool questions) {
    Chosen out{&from, {}};
    for (const Item& item : from.items)
      if ((from.places.at(item.probe).question >= 0) == questions) out.items.push_back(item);
    return out;
  }
  static Chosen prompts_of(const Planned& from) { return chosen(from, false); }
  static Chosen questions_of(const Planned& from) { return chosen(from, true); }

  void check_stop() const {
    if (stop_requested()) throw stopped_error("identity transfer: finished batches are kept");
  }

  // Calls done(block, item, line) for every item under every condition; `make` gives the lines of a
  // whole block that are not kept yet.
  void each(
      const Chosen& chosen, const std::vector<std::pair<std::string, Give>>& conditions,
      const std::string& label, const std::function<std::vector<Json>(Block&, const Give&)>& make,
      const std::function<void(const std::string&, const Place&, const nlohmann::json&)>& done) {
    Progress progress(label, static_cast<int64_t>(chosen.items.size() * conditions.size()),
                      "answers");
    for (std::vector<Item>& some : make_blocks(chosen.items, 0)) {
      Block block(std::move(some), in_.source, in_.target,
                  {.batch_size = in_.options.batch_size, .seed = 0});
      for (const auto& [name, give] : conditions) {
        const auto id_of = [&, &name = name](size_t i) {
          return cat(name, ":", block.item(i).probe->id);
        };
        bool known = true;
        for (size_t i = 0; i < block.size(); ++i) known = known && kept_.find(id_of(i)) != nullptr;
        if (!known) {
          check_stop();
          std::vector<Json> lines = make(block, give);
          for (size_t i = 0; i < block.size(); ++i) {
            lines[i]["id"] = id_of(i);
            kept_.keep(lines[i]);
            done(name, chosen.plan->places.at(block.item(i).probe), lines[i]);
          }
        } else {
          for (size_t i = 0; i < block.size(); ++i)
            kept_.read(id_of(i), [&, &name = name](const nlohmann::json& line) {
              done(name, chosen.plan->places.at(block.item(i).probe), line);
            });
        }
        progress.advance(static_cast<int64_t>(block.size()));
      }
    }
  }

  static std::vector<Given> given_of(Block& block, const Give& give) {
    std::vector<Given> rows;
    for (size_t i = 0; i < block.size(); ++i) rows.push_back(give(block, i));
    return rows;
  }

  void write(const Chosen& chosen, const std::vector<std::pair<std::string, Give>>& conditions) {
    each(
        chosen, conditions, "identity transfer",
        [&](Block& block, const Give& give) {
          std::vector<Json> lines;
          for (const GeneratedRow& row : answer(in_.target, given_of(block, give),
                                                in_.options.new_tokens, in_.options.batch_size))
            lines.push_back({{"text", in_.target.decode(row.ids)}});
          return lines;
        },
        [&](const std::string& name, const Place& place, const nlohmann::json& line) {
          WrittenAnswer written = place.at;
          written.text = line.at("text");
          result_.written[name].push_back(std::move(written));
        });
  }

  // The prompt alone is the same for every text: asked once, held against every persona.
  void write_baseline(const Chosen& all, const Give& without) {
    Chosen first{all.plan, {}};
    for (const Item& item : all.items) {
      const WrittenAnswer& at = all.plan->places.at(item.probe).at;
      if (at.label == 0 && at.wording == 0) first.items.push_back(item);
    }
    write(first, {{"baseline", without}});
    std::vector<WrittenAnswer> once;
    std::swap(once, result_.written["baseline"]);
    for (const WrittenAnswer& answer : once)
      for (size_t k = 0; k < in_.texts.personas.size(); ++k)
        for (size_t w = 0; w < in_.texts.personas[k].size(); ++w) {
          WrittenAnswer copy = answer;
          copy.label = static_cast<int64_t>(k);
          copy.wording = static_cast<int64_t>(w);
          result_.written["baseline"].push_back(std::move(copy));
        }
  }

  // Sum of log-likelihoods of each persona's label after each row.
  std::vector<std::vector<double>> label_likelihoods(const std::vector<Given>& given) const {
    std::vector<std::vector<double>> out(given.size());
    in_batches(given.size(), in_.options.batch_size, [&](size_t begin, size_t end) {
      const std::vector<Given> rows(given.begin() + static_cast<int64_t>(begin),
                                    given.begin() + static_cast<int64_t>(end));
      const ReadRows read(in_.target, rows);
      for (const Persona& persona : in_.design.personas) {
        const std::vector<int64_t> label = in_.target.encode(" " + persona.label);
        const std::vector<std::vector<int64_t>> answers(rows.size(), label);
        const std::vector<Likelihood> likely = read.likelihoods(answers, false);
        for (size_t r = 0; r < rows.size(); ++r)
          out[begin + r].push_back(-likely[r].nll * static_cast<double>(label.size()));
      }
    });
    return out;
  }

  void recognise(const Chosen& chosen, const std::vector<std::pair<std::string, Give>>& conditions,
                 const Give& without) {
    each(
        chosen, conditions, "self-recognition",
        [&](Block& block, const Give& give) {
          const auto here = label_likelihoods(given_of(block, give)),
                     before = label_likelihoods(given_of(block, without));
          std::vector<Json> lines;
          for (size_t r = 0; r < here.size(); ++r) {
            std::vector<double> gains;
            for (size_t k = 0; k < here[r].size(); ++k) gains.push_back(here[r][k] - before[r][k]);
            lines.push_back({{"gains", gains}});
          }
          return lines;
        },
        [&](const std::string& name, const Place& place, const nlohmann::json& line) {
          const std::vector<double> gains = line.at("gains");
          if (gains.size() != in_.design.personas.size())
            throw Error({.code = ExitCode::kCorrupt,
                         .where = in_.file.string(),
                         .what = "a stored line is of other personas",
                         .got = cat(gains.size(), " gains"),
                         .expected = cat(in_.design.personas.size()),
                         .remedy = "start over with --restart"});
          const auto best = std::ranges::max_element(gains) - gains.begin();
          result_.recognised[name].push_back(
              {place.at.label, place.at.wording, place.question, best});
        });
  }

  const TransferInput& in_;
  KeptLines kept_;
  std::unique_ptr<Condition> noise_;
  TransferResult result_;
};

}  // namespace

TransferResult run_transfer(const TransferInput& input) { return Work(input).run(); }

}  // namespace kvlingua
