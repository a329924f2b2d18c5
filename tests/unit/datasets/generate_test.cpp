// Generation end to end on tiny models: what is stored equals a direct prefill, whatever happened
// in between.
#include "datasets/generate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <map>
#include <thread>

#include "datasets/generation/pair_run.h"
#include "datasets/generation/sample_builder.h"
#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_reader.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/sha256.h"
#include "support/direct_prefill.h"
#include "support/free_port.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;
using testing::tiny_context;
using testing::tiny_recipe;

const std::filesystem::path& models() {
  static const TempDir* dir = [] {
    set_log_level(LogLevel::kError);
    auto* d = new TempDir;
    testing::save_tiny_pair(d->path());
    return d;
  }();
  return dir->path();
}

template <class F>
Error caught(F&& work) {
  try {
    work();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorParts{});
}

// sha256 of every shard, in order: equal for equal pair sets.
std::vector<std::string> hashes(const std::filesystem::path& out) {
  std::vector<std::string> list;
  const auto manifest = load_pair_manifest(out / "datasets" / "tiny");
  for (const auto& [index, shard] : manifest.value().shards) list.push_back(shard.sha256);
  return list;
}

struct Half {
  CausalLM model;
  Tokenizer tokenizer;
  TextReader reader;
};
Half load_half(const std::string& name, const std::string& chat, bool with_chat = true) {
  Half half{CausalLM::load(models() / name), Tokenizer::from_directory(models() / name), {}};
  ModelOptions options;
  options.name = name;
  options.chat = chat;
  half.reader = TextReader::of(half.tokenizer, options, {.max_position_embeddings = 512},
                               with_chat ? Framing::kOneTurn : Framing::kNone);
  return half;
}
KvCache direct(const Half& half, const std::vector<int32_t>& ids) {
  return testing::direct_prefill(half.model, half.reader, ids);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(Generate, StoredCachesEqualADirectPrefillAcrossBatchSizes) {
  const TempDir out;
  const GenerateResult result = generate(tiny_recipe(models()), tiny_context(out.path()));
  EXPECT_EQ(result.samples, 40);
  EXPECT_TRUE(result.complete);
  EXPECT_GT(result.shards, 1);
  EXPECT_GT(result.alignment_covered, .99);
  const PairReader reader = PairReader::open(out / "datasets/tiny");
  const Half source = load_half("source", "qwen3"), target = load_half("target", "qwen2.5");
  EXPECT_GT(target.reader.before.size(), 3U);
  for (int64_t i = 0; i < reader.samples(); ++i) {
    const PairSample sample = reader.sample(i);
    ASSERT_EQ(sample.record.id, i);
    const KvCache a = direct(source, sample.record.source.ids),
                  b = direct(target, sample.record.target.ids);
    EXPECT_LT(largest_difference(sample.source.keys(), a.keys()), 1e-5);
    EXPECT_LT(largest_difference(sample.source.values(), a.values()), 1e-5);
    EXPECT_LT(largest_difference(sample.target.keys(), b.keys()), 1e-5);
    EXPECT_LT(largest_difference(sample.target.values(), b.values()), 1e-5);
    EXPECT_TRUE(at::equal(sample.source.positions(), a.positions()));
    EXPECT_TRUE(at::equal(sample.target.positions(), b.positions()));
    // Both tokenizations are of the stored text.
    EXPECT_EQ(
        source.tokenizer.decode({sample.record.source.ids.begin(), sample.record.source.ids.end()}),
        sample.record.text);
    EXPECT_EQ(
        target.tokenizer.decode({sample.record.target.ids.begin(), sample.record.target.ids.end()}),
        sample.record.text);
  }
}

// With one sample a batch, the direct prefill is the same batch: bit for bit.
TEST(Generate, StoredCachesAreADirectPrefillBitForBitForTheSameBatch) {
  const TempDir single;
  Recipe recipe = tiny_recipe(models(), "  max_samples: 9\n");
  recipe.data.batch_tokens = 1;
  generate(recipe, tiny_context(single.path()));
  const PairReader reader = PairReader::open(single / "datasets/tiny");
  const Half source = load_half("source", "qwen3"), target = load_half("target", "qwen2.5");
  ASSERT_EQ(reader.samples(), 9);
  for (int64_t i = 0; i < reader.samples(); ++i) {
    const PairSample sample = reader.sample(i);
    const KvCache a = direct(source, sample.record.source.ids),
                  b = direct(target, sample.record.target.ids);
    EXPECT_TRUE(at::equal(sample.source.keys(), a.keys()));
    EXPECT_TRUE(at::equal(sample.source.values(), a.values()));
    EXPECT_TRUE(at::equal(sample.target.keys(), b.keys()));
    EXPECT_TRUE(at::equal(sample.target.values(), b.values()));
  }
}

TEST(Generate, WithoutChatTheSpanStandsAtTheBeginning) {
  const TempDir out;
  generate(tiny_recipe(models(), "  chat: false\n  max_samples: 6\n"), tiny_context(out.path()));
  const PairReader reader = PairReader::open(out / "datasets/tiny");
  const Half target = load_half("target", "qwen2.5", false);
  EXPECT_TRUE(target.reader.before.empty());
  for (int64_t i = 0; i < 6; ++i) {
    const PairSample sample = reader.sample(i);
    EXPECT_EQ(sample.target.positions()[0][0].item<int64_t>(), 0);
    EXPECT_LT(
        largest_difference(sample.target.keys(), direct(target, sample.record.target.ids).keys()),
        1e-5);
  }
}

TEST(Generate, EveryStorageTypeKeepsItsPromiseAndSaysItsError) {
  const TempDir exact;
  generate(tiny_recipe(models(), "  max_samples: 12\n"), tiny_context(exact.path()));
  const PairReader truth = PairReader::open(exact / "datasets/tiny");
  for (const auto& [type, bound] :
       {std::pair{"bfloat16", 8e-3}, {"float16", 1e-3}, {"int8", 2e-2}}) {
    const TempDir out;
    generate(tiny_recipe(models(), cat("  max_samples: 12\n  storage_dtype: ", type, "\n")),
             tiny_context(out.path()));
    const PairReader reader = PairReader::open(out / "datasets/tiny");
    for (int64_t i = 0; i < 12; ++i) {
      const at::Tensor want = truth.sample(i).target.keys(), got = reader.sample(i).target.keys();
      EXPECT_LT(largest_difference(got, want) / want.abs().max().item<double>(), bound) << type;
    }
    const auto& error = reader.manifest().shards.begin()->second.quantisation;
    EXPECT_GT(error["target"]["keys"]["relative_rms"].get<double>(), 0.0) << type;
    EXPECT_LT(error["source"]["values"]["relative_rms"].get<double>(), bound) << type;
    EXPECT_TRUE(verify_pairs(out / "datasets/tiny").clean());
  }
}

TEST(Generate, SubsamplingKeepsTokensAndTheirSources) {
  const TempDir all, some;
  generate(tiny_recipe(models(), "  max_samples: 10\n  queries: true\n"), tiny_context(all.path()));
  generate(tiny_recipe(models(), "  max_samples: 10\n  queries: true\n  tokens_per_sample: 5\n"),
           tiny_context(some.path()));
  const PairReader whole = PairReader::open(all / "datasets/tiny"),
                   part = PairReader::open(some / "datasets/tiny");
  for (int64_t i = 0; i < 10; ++i) {
    const PairSample a = whole.sample(i), b = part.sample(i);
    ASSERT_EQ(a.record.text, b.record.text);
    ASSERT_EQ(b.record.target.row_token.size(), 5U);
    for (size_t k = 0; k < 5; ++k) {
      const int64_t token = b.record.target.row_token[k];
      EXPECT_TRUE(at::equal(b.target.keys().select(3, static_cast<int64_t>(k)),
                            a.target.keys().select(3, token)));
      EXPECT_TRUE(at::equal(b.target_queries.select(3, static_cast<int64_t>(k)),
                            a.target_queries.select(3, token)));
      const int64_t from = b.record.target_source_row[k];
      EXPECT_TRUE(
          at::equal(b.source.values().select(3, from),
                    a.source.values().select(3, b.record.alignment[static_cast<size_t>(token)])));
    }
  }
  EXPECT_TRUE(verify_pairs(some / "datasets/tiny").clean());
}

TEST(Generate, SequentialAndRanksMakeTheSameShards) {
  const TempDir plain, sequential, ranks;
  generate(tiny_recipe(models()), tiny_context(plain.path()));
  generate(tiny_recipe(models(), "  sequential: true\n"), tiny_context(sequential.path()));
  EXPECT_EQ(hashes(plain.path()).size(), hashes(sequential.path()).size());
  EXPECT_FALSE(std::filesystem::exists(sequential / "datasets/tiny/.stage"));
  const PairReader a = PairReader::open(plain / "datasets/tiny"),
                   b = PairReader::open(sequential / "datasets/tiny");
  for (int64_t i = 0; i < a.samples(); ++i) {
    EXPECT_EQ(a.sample(i).source.fingerprint(), b.sample(i).source.fingerprint());
    EXPECT_EQ(a.sample(i).target.fingerprint(), b.sample(i).target.fingerprint());
  }
  // Begun by three ranks, one of which never runs; finished by two.
  generate(tiny_recipe(models()), tiny_context(ranks.path(), 0, 3));
  generate(tiny_recipe(models()), tiny_context(ranks.path(), 2, 3));
  EXPECT_THROW(PairReader::open(ranks / "datasets/tiny"), Error);
  generate(tiny_recipe(models()), tiny_context(ranks.path(), 1, 2));
  const GenerateResult last = generate(tiny_recipe(models()), tiny_context(ranks.path(), 0, 2));
  EXPECT_TRUE(last.complete);
  EXPECT_GT(last.resumed_samples, 0);
  EXPECT_EQ(hashes(ranks.path()), hashes(plain.path()));
  EXPECT_FALSE(std::filesystem::exists(ranks / "datasets/tiny" / rank_manifest_name(0)));
}

// Every file of the set, the manifest too: how many shards are written at once is not to be seen.
TEST(Generate, AnyNumberOfWritersMakesTheSameFiles) {
  const auto files = [](const std::filesystem::path& out) {
    std::map<std::string, std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(out / "datasets/tiny")) {
      if (entry.path().filename().string().starts_with(".lock")) continue;
      all[entry.path().filename().string()] = sha256_file(entry.path());
    }
    return all;
  };
  const TempDir single;
  generate(tiny_recipe(models()), tiny_context(single.path()));
  const auto expected = files(single.path());
  ASSERT_GT(expected.size(), 4U);  // shards and the manifest
  for (const int64_t writers : {2, 3, 16}) {
    const TempDir several;
    generate(tiny_recipe(models()), tiny_context(several.path()), writers);
    EXPECT_EQ(files(several.path()), expected) << writers;
  }
}

// Of several writers one fails, and then all stop: one error, of the first, and nothing half done.
TEST(Generate, AFullDiskUnderSeveralWritersIsOneError) {
  const TempDir out;
  const auto run = [&] { generate(tiny_recipe(models()), tiny_context(out.path()), 4); };
  file_ops::set_fault("");
  run();
  const auto expected = hashes(out.path());
  const int64_t operations = file_ops::count();
  for (const int64_t at : {operations / 3, operations / 2, operations * 3 / 4}) {
    std::filesystem::remove_all(out / "datasets");
    file_ops::set_fault(cat("enospc@", at));
    const Error error = caught(run);
    file_ops::set_fault("");
    EXPECT_EQ(error.code(), ExitCode::kDiskFull) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("No space left on device"));
    for (const auto& entry : std::filesystem::directory_iterator(out / "datasets/tiny"))
      EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
    if (load_pair_manifest(out / "datasets/tiny")) {
      EXPECT_TRUE(verify_pairs(out / "datasets/tiny").clean()) << at;
    }
    run();
    EXPECT_EQ(hashes(out.path()), expected) << at;
  }
}

TEST(Generate, OpenShardsTakeTurns) {
  BatchPlan plan;
  int64_t batch = 0;
  for (const int64_t batches : {3, 1, 2, 4, 2}) {
    plan.shards.push_back({.first_batch = batch, .last_batch = batch + batches});
    batch += batches;
  }
  for (const int64_t at_once : {1, 2, 3, 9}) {
    std::map<int64_t, int64_t> open;  // shard: its next batch
    std::vector<int64_t> seen;
    size_t most = 0;
    for (const BatchTurn& turn : batch_turns(plan, {0, 1, 2, 3, 4}, at_once)) {
      const PlannedShard& shard = plan.shards[static_cast<size_t>(turn.shard)];
      EXPECT_EQ(turn.first, open.count(turn.shard) == 0);
      if (turn.first) open[turn.shard] = shard.first_batch;
      EXPECT_EQ(turn.batch, open[turn.shard]++);
      most = std::max(most, open.size());
      EXPECT_EQ(turn.last, open[turn.shard] == shard.last_batch);
      if (turn.last) open.erase(turn.shard);
      seen.push_back(turn.batch);
    }
    // The shard of one batch is closed in its first turn, before the last ones are opened.
    EXPECT_EQ(most, static_cast<size_t>(std::min<int64_t>(at_once, 4)));
    EXPECT_TRUE(open.empty());
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), static_cast<size_t>(batch));
    for (int64_t i = 0; i < batch; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
  }
  EXPECT_TRUE(batch_turns(plan, {}, 3).empty());
}

// Both ranks are told to begin anew: what was there goes once, and neither loses what the other has
// made since.
TEST(Generate, SeveralRanksRestartTogether) {
  const TempDir out, single;
  const Recipe recipe = tiny_recipe(models());
  generate(recipe, tiny_context(single.path()));
  Recipe before = recipe;
  before.data.synthetic.seed = 6;
  generate(before, tiny_context(out.path()));
  ASSERT_NE(hashes(out.path()), hashes(single.path()));
  const int64_t port = testing::free_port();
  std::vector<std::thread> ranks;
  for (int64_t rank : {0, 1}) {
    ranks.emplace_back([&, rank] {
      RunContext context = tiny_context(out.path(), rank, 2);
      context.world.master_port = port;
      context.restart = true;
      generate(recipe, context);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(hashes(out.path()), hashes(single.path()));
  EXPECT_TRUE(verify_pairs(out / "datasets/tiny").clean());
}

TEST(Generate, AFinishedSetIsLeftAloneAndAMissingShardIsMadeAgain) {
  const TempDir out;
  generate(tiny_recipe(models()), tiny_context(out.path()));
  const auto before = hashes(out.path());
  const GenerateResult again = generate(tiny_recipe(models()), tiny_context(out.path()));
  EXPECT_EQ(again.resumed_samples, 40);
  EXPECT_EQ(again.samples, 40);
  std::filesystem::remove(out / "datasets/tiny/shard-000001.h5");
  const GenerateResult repaired = generate(tiny_recipe(models()), tiny_context(out.path()));
  EXPECT_LT(repaired.resumed_samples, 40);
  EXPECT_EQ(repaired.samples, 40);
  EXPECT_EQ(hashes(out.path()), before);
  EXPECT_TRUE(verify_pairs(out / "datasets/tiny").clean());
}

TEST(Generate, AnotherRecipesFolderIsRefusedNamingTheField) {
  const TempDir out;
  generate(tiny_recipe(models(), "  max_samples: 5\n"), tiny_context(out.path()));
  const auto refused = [&](const std::string& data) {
    const Error e = caught([&] {
      generate(tiny_recipe(models(), "  max_samples: 5\n" + data), tiny_context(out.path()));
    });
    EXPECT_EQ(e.code(), ExitCode::kInput);
    return std::string(e.what());
  };
  EXPECT_THAT(refused("  storage_dtype: int8\n"), HasSubstr("storage differs"));
  EXPECT_THAT(refused("  seed: 9\n"), HasSubstr("plan.seed differs"));
  EXPECT_THAT(refused("  chat: false\n"), HasSubstr("source.chat differs"));
  RunContext restart = tiny_context(out.path());
  restart.restart = true;
  EXPECT_EQ(
      generate(tiny_recipe(models(), "  max_samples: 5\n  seed: 9\n"), restart).resumed_samples, 0);
}

TEST(Generate, BadInputIsNamed) {
  const TempDir out;
  const std::filesystem::path file = out.write(
      "c.jsonl",
      "{\"text\": \"good one here\"}\n{\"text\": oops}\n{\"text\": \"another good one\"}\n");
  const std::string data = "  files: [" + file.string() + "]\n";
  Recipe recipe = tiny_recipe(models(), data);
  recipe.data.kind = "jsonl";
  recipe.data.split = "all";
  const Error bad = caught([&] { generate(recipe, tiny_context(out.path())); });
  EXPECT_THAT(bad.what(), HasSubstr("c.jsonl:2"));
  EXPECT_EQ(bad.code(), ExitCode::kInput);
  RunContext skipping = tiny_context(out.path());
  skipping.skip_bad = true;
  const GenerateResult result = generate(recipe, skipping);
  EXPECT_EQ(result.samples, 2);
  EXPECT_EQ(result.skipped_documents, 1);

  const TempDir fresh;
  Recipe identity = tiny_recipe(models());
  identity.pair.alignment = "identity";
  EXPECT_THAT(caught([&] { generate(identity, tiny_context(fresh.path())); }).what(),
              HasSubstr("last_char"));

  std::string words;
  for (int i = 0; i < 800; ++i) words += cat("word", i, " ");
  Recipe longer = recipe;
  longer.data.files = {fresh.write("long.txt", words).string()};
  longer.data.kind = "plain";
  longer.data.max_length = 5000;
  const Error too_long = caught([&] { generate(longer, tiny_context(fresh.path())); });
  EXPECT_THAT(too_long.what(), HasSubstr("data.max_length"));
  longer.data.max_length = 100;
  const int64_t cut = generate(longer, tiny_context(fresh.path())).tokens;
  EXPECT_LE(cut, 100);
  EXPECT_GT(cut, 90);
}

TEST(Generate, StoppedByASignalItGoesOnLater) {
  const TempDir out, whole;
  generate(tiny_recipe(models()), tiny_context(whole.path()));
  request_stop(SIGTERM);
  const Error e = caught([&] { generate(tiny_recipe(models()), tiny_context(out.path())); });
  request_stop(0);
  EXPECT_EQ(e.code(), ExitCode::kTerminated);
  generate(tiny_recipe(models()), tiny_context(out.path()));
  EXPECT_EQ(hashes(out.path()), hashes(whole.path()));
}

}  // namespace
}  // namespace kvlingua
