#include "pickle.h"

#include <array>
#include <cstring>
#include <map>
#include <unordered_map>
#include <variant>

#include "kvlingua/base/error.h"

namespace kvlingua::pickle {
namespace {

constexpr size_t kMaxStack = 1 << 20;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxDimensions = 16;

struct Dtype {
  const char* storage_class;
  const char* name;
  int64_t size;
};
constexpr std::array<Dtype, 10> kDtypes{{{"FloatStorage", "float32", 4},
                                         {"BFloat16Storage", "bfloat16", 2},
                                         {"HalfStorage", "float16", 2},
                                         {"DoubleStorage", "float64", 8},
                                         {"LongStorage", "int64", 8},
                                         {"IntStorage", "int32", 4},
                                         {"ShortStorage", "int16", 2},
                                         {"CharStorage", "int8", 1},
                                         {"ByteStorage", "uint8", 1},
                                         {"BoolStorage", "bool", 1}}};

const Dtype* dtype_by_class(std::string_view storage_class) {
  for (const Dtype& d : kDtypes) {
    if (storage_class == d.storage_class) return &d;
  }
  return nullptr;
}

// What the machine's stack holds besides plain values.
struct Global {
  enum class Kind { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorage } kind;
  const Dtype* dtype = nullptr;
};
struct Storage {
  const Dtype* dtype = nullptr;
  std::string key;
  int64_t elements = 0;
};
struct Mark {};
struct Node {
  std::shared_ptr<PtValue> value;
  int depth = 1;
  // Set when the value became part of another: changing it afterwards could only build a cycle.
  bool frozen = false;
  // A tuple may carry globals and storages (arguments of REDUCE), which no PtValue can hold.
  std::vector<std::variant<std::shared_ptr<Node>, Global, Storage, Mark>> parts;
};
using Item = std::variant<std::shared_ptr<Node>, Global, Storage, Mark>;

class Machine {
 public:
  Machine(std::string_view bytes, const std::string& where, const StorageLoader& storage)
      : bytes_(bytes), where_(where), load_storage_(storage) {}

  PtPointer run();

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& got = {},
                         const std::string& expected = {}) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where_, ": pickle byte ", position_),
                 .what = what,
                 .got = got,
                 .expected = expected});
  }

  uint8_t byte() { return static_cast<uint8_t>(take(1)[0]); }
  std::string_view take(uint64_t n) {
    if (n > bytes_.size() - position_) fail("the pickle ends early");
    const std::string_view out = bytes_.substr(position_, n);
    position_ += n;
    return out;
  }
  uint64_t little_endian(int n) {
    uint64_t x = 0;
    const std::string_view raw = take(static_cast<uint64_t>(n));
    for (int i = n - 1; i >= 0; --i) x = x << 8 | static_cast<uint8_t>(raw[static_cast<size_t>(i)]);
    return x;
  }
  std::string line() {
    const size_t end = bytes_.find('\n', position_);
    if (end == std::string_view::npos || end - position_ > 256)
      fail("a global's name does not end");
    const std::string out(bytes_.substr(position_, end - position_));
    position_ = end + 1;
    return out;
  }

  void push(Item item) {
    if (stack_.size() >= kMaxStack) fail("the stack grows too high");
    stack_.push_back(std::move(item));
  }
  void push_value(PtValue value) {
    auto node = std::make_shared<Node>();
    node->value = std::make_shared<PtValue>(std::move(value));
    push(std::move(node));
  }
  Item pop() {
    if (stack_.empty()) fail("the stack is empty");
    Item item = std::move(stack_.back());
    stack_.pop_back();
    return item;
  }
  std::shared_ptr<Node> as_node(Item item) const {
    auto* node = std::get_if<std::shared_ptr<Node>>(&item);
    if (node == nullptr) fail("a plain value was expected");
    return *node;
  }
  std::vector<Item> pop_to_mark() {
    std::vector<Item> items;
    for (;;) {
      Item item = pop();
      if (std::holds_alternative<Mark>(item)) break;
      items.push_back(std::move(item));
    }
    return {items.rbegin(), items.rend()};
  }
  std::shared_ptr<Node> top_container(PtValue::Kind kind) {
    if (stack_.empty()) fail("the stack is empty");
    auto node = as_node(stack_.back());
    if (!node->value || node->value->kind != kind) fail("not the container this opcode changes");
    if (node->frozen) fail("a container is changed after it was stored in another");
    return node;
  }
  PtPointer store_in(Node& container, const Item& item) {
    auto child = as_node(item);
    if (!child->value) fail("an argument tuple cannot be stored");
    child->frozen = true;
    if (container.frozen) fail("a container is stored in itself");
    container.depth = std::max(container.depth, child->depth + 1);
    if (container.depth > kMaxDepth)
      fail("values nest too deep", cat(container.depth), cat("at most ", kMaxDepth));
    return child->value;
  }

  void push_tuple(std::vector<Item> items) {
    auto node = std::make_shared<Node>();
    bool plain = true;
    for (const Item& item : items) {
      const auto* child = std::get_if<std::shared_ptr<Node>>(&item);
      plain = plain && child != nullptr && (*child)->value != nullptr;
    }
    for (const Item& item : items) {
      if (const auto* child = std::get_if<std::shared_ptr<Node>>(&item)) {
        (*child)->frozen = true;
        node->depth = std::max(node->depth, (*child)->depth + 1);
      }
    }
    if (node->depth > kMaxDepth)
      fail("values nest too deep", cat(node->depth), cat("at most ", kMaxDepth));
    if (plain) {
      node->value = std::make_shared<PtValue>();
      node->value->kind = PtValue::Kind::kTuple;
      for (const Item& item : items)
        node->value->items.push_back(std::get<std::shared_ptr<Node>>(item)->value);
    }
    node->parts = std::move(items);
    push(std::move(node));
  }

  void memoize(uint64_t index) {
    if (stack_.empty()) fail("the stack is empty");
    if (index > kMaxStack) fail("a memo index is out of range", cat(index));
    memo_[index] = stack_.back();
  }
  void recall(uint64_t index) {
    const auto it = memo_.find(index);
    if (it == memo_.end()) fail("a memo entry is missing", cat(index));
    push(it->second);
  }

  Global find_global(const std::string& module, const std::string& name) const {
    if (module == "collections" && name == "OrderedDict") return {Global::Kind::kOrderedDict};
    if (module == "torch._utils" && name == "_rebuild_tensor_v2")
      return {Global::Kind::kRebuildTensor};
    if (module == "torch._utils" && name == "_rebuild_parameter")
      return {Global::Kind::kRebuildParameter};
    if (module == "torch") {
      if (const Dtype* dtype = dtype_by_class(name)) return {Global::Kind::kStorage, dtype};
    }
    fail("a global that is not on the allow-list (nothing was executed)",
         printable(module + "." + name),
         "OrderedDict, _rebuild_tensor_v2, _rebuild_parameter or a torch storage class");
  }

  int64_t integer_of(const Item& item) const {
    const auto node = as_node(item);
    if (!node->value || node->value->kind != PtValue::Kind::kInt) fail("an integer was expected");
    return node->value->integer;
  }
  std::vector<int64_t> integers_of(const Item& item) const {
    const auto node = as_node(item);
    if (!node->value || node->value->kind != PtValue::Kind::kTuple)
      fail("a tuple of integers was expected");
    if (node->value->items.size() > kMaxDimensions)
      fail("a tensor has too many dimensions", cat(node->value->items.size()));
    std::vector<int64_t> out;
    for (const PtPointer& p : node->value->items) {
      if (p->kind != PtValue::Kind::kInt || p->integer < 0)
        fail("a size or stride is not a non-negative integer");
      out.push_back(p->integer);
    }
    return out;
  }

  void reduce();
  void rebuild_tensor(const std::vector<Item>& arguments);
  void persistent_id();
  void set_items(Node& dict, const std::vector<Item>& items) {
    if (items.size() % 2 != 0) fail("a dict gets a key without a value");
    for (size_t i = 0; i < items.size(); i += 2) {
      const PtPointer key = store_in(dict, items[i]);
      const PtPointer value = store_in(dict, items[i + 1]);
      dict.value->entries.emplace_back(key, value);
    }
  }
  void long_integer(uint64_t n) {
    if (n > 8) fail("an integer is too large", cat(n, " bytes"), "at most 8");
    const std::string_view raw = take(n);
    uint64_t x = 0;
    for (size_t i = 0; i < n; ++i)
      x |= static_cast<uint64_t>(static_cast<uint8_t>(raw[i])) << (8 * i);
    if (n > 0 && n < 8 && (raw[n - 1] & 0x80)) x |= ~uint64_t{0} << (8 * n);
    push_value({.kind = PtValue::Kind::kInt, .integer = static_cast<int64_t>(x)});
  }

  std::string_view bytes_;
  std::string where_;
  const StorageLoader& load_storage_;
  size_t position_ = 0;
  std::vector<Item> stack_;
  std::unordered_map<uint64_t, Item> memo_;
  uint64_t next_memo_ = 0;
};

void Machine::persistent_id() {
  const auto node = as_node(pop());
  const auto& parts = node->parts;
  const auto text = [&](size_t i) -> std::string {
    const auto* child = std::get_if<std::shared_ptr<Node>>(&parts[i]);
    if (child == nullptr || !(*child)->value || (*child)->value->kind != PtValue::Kind::kText)
      fail("a malformed storage id");
    return (*child)->value->text;
  };
  if (parts.size() != 5 || text(0) != "storage") fail("a persistent id that is no storage");
  const auto* global = std::get_if<Global>(&parts[1]);
  if (global == nullptr || global->kind != Global::Kind::kStorage)
    fail("a storage without a storage class");
  Storage storage{global->dtype, text(2), integer_of(parts[4])};
  if (storage.elements < 0) fail("a storage of negative size", cat(storage.elements));
  push(std::move(storage));
}

void Machine::rebuild_tensor(const std::vector<Item>& arguments) {
  if (arguments.size() < 6 || arguments.size() > 7)
    fail("a tensor with the wrong number of arguments", cat(arguments.size()));
  const auto* storage = std::get_if<Storage>(&arguments[0]);
  if (storage == nullptr) fail("a tensor without a storage");
  PtValue value;
  value.kind = PtValue::Kind::kTensor;
  PtTensor& t = value.tensor;
  t.dtype = storage->dtype->name;
  t.offset = integer_of(arguments[1]);
  t.shape = integers_of(arguments[2]);
  t.stride = integers_of(arguments[3]);
  if (t.shape.size() != t.stride.size()) fail("a tensor's sizes and strides differ in number");
  // The last element must lie inside the storage, without overflow on the way.
  int64_t last = t.offset, count = 1;
  bool bad = t.offset < 0;
  for (size_t i = 0; i < t.shape.size() && !bad; ++i) {
    bad = __builtin_mul_overflow(count, t.shape[i], &count);
    int64_t span = 0;
    if (t.shape[i] > 1)
      bad = bad || __builtin_mul_overflow(t.shape[i] - 1, t.stride[i], &span) ||
            __builtin_add_overflow(last, span, &last);
  }
  if (bad || count > storage->elements || (count > 0 && last >= storage->elements)) {
    fail("a tensor reaches outside its storage", cat("element ", last),
         cat("below ", storage->elements));
  }
  t.storage = load_storage_(storage->key);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(storage->elements, storage->dtype->size, &bytes) ||
      static_cast<int64_t>(t.storage->size()) != bytes) {
    fail("storage " + printable(storage->key) + " has the wrong size",
         cat(t.storage->size(), " bytes"), cat(bytes));
  }
  push_value(std::move(value));
}

void Machine::reduce() {
  const auto arguments = as_node(pop());
  const Item callable = pop();
  const auto* global = std::get_if<Global>(&callable);
  if (global == nullptr)
    fail("a call of something that is not on the allow-list (nothing was executed)");
  switch (global->kind) {
    case Global::Kind::kOrderedDict:
      if (!arguments->parts.empty() || !arguments->value ||
          arguments->value->kind != PtValue::Kind::kTuple) {
        fail("OrderedDict with arguments");
      }
      return push_value({.kind = PtValue::Kind::kDict});
    case Global::Kind::kRebuildTensor:
      return rebuild_tensor(arguments->parts);
    case Global::Kind::kRebuildParameter: {
      if (arguments->parts.empty()) fail("a parameter without a tensor");
      const auto tensor = as_node(arguments->parts[0]);
      if (!tensor->value || tensor->value->kind != PtValue::Kind::kTensor)
        fail("a parameter that is no tensor");
      return push(tensor);
    }
    case Global::Kind::kStorage:
      fail("a call of a storage class (nothing was executed)");
  }
}

// One case an opcode, in the order of the protocol: a table of them would be longer.
PtPointer Machine::run() {
  for (;;) {
    const uint8_t opcode = byte();
    switch (opcode) {
      case 0x80:  // PROTO
        if (const uint8_t version = byte(); version < 2 || version > 4)
          fail("pickle protocol", cat(int{version}), "2 to 4");
        break;
      case 0x95:
        take(8);
        break;  // FRAME
      case '(':
        push(Mark{});
        break;
      case ')':
        push_tuple({});
        break;
      case ']':
        push_value({.kind = PtValue::Kind::kList});
        break;
      case '}':
        push_value({.kind = PtValue::Kind::kDict});
        break;
      case 'N':
        push_value({});
        break;
      case 0x88:
        push_value({.kind = PtValue::Kind::kBool, .boolean = true});
        break;
      case 0x89:
        push_value({.kind = PtValue::Kind::kBool});
        break;
      case 'J':
        push_value(
            {.kind = PtValue::Kind::kInt, .integer = static_cast<int32_t>(little_endian(4))});
        break;
      case 'K':
        push_value({.kind = PtValue::Kind::kInt, .integer = byte()});
        break;
      case 'M':
        push_value(
            {.kind = PtValue::Kind::kInt, .integer = static_cast<int64_t>(little_endian(2))});
        break;
      case 0x8A:
        long_integer(byte());
        break;     // LONG1
      case 'G': {  // BINFLOAT, big-endian
        uint64_t bits = 0;
        for (const char c : take(8)) bits = bits << 8 | static_cast<uint8_t>(c);
        double x;
        std::memcpy(&x, &bits, 8);
        push_value({.kind = PtValue::Kind::kFloat, .real = x});
        break;
      }
      case 'X':
        push_value({.kind = PtValue::Kind::kText, .text = std::string(take(little_endian(4)))});
        break;
      case 0x8C:
        push_value({.kind = PtValue::Kind::kText, .text = std::string(take(byte()))});
        break;
      case 'q':
        memoize(byte());
        break;
      case 'r':
        memoize(little_endian(4));
        break;
      case 0x94:
        memoize(next_memo_++);
        break;  // MEMOIZE
      case 'h':
        recall(byte());
        break;
      case 'j':
        recall(little_endian(4));
        break;
      case 'c': {
        const std::string module = line();
        push(find_global(module, line()));
        break;
      }
      case 't':
        push_tuple(pop_to_mark());
        break;
      case 0x85:
      case 0x86:
      case 0x87: {  // TUPLE1..3
        std::vector<Item> items(opcode - 0x84);
        for (size_t i = items.size(); i > 0; --i) items[i - 1] = pop();
        push_tuple(std::move(items));
        break;
      }
      case 'a': {
        const Item item = pop();
        const auto list = top_container(PtValue::Kind::kList);
        list->value->items.push_back(store_in(*list, item));
        break;
      }
      case 'e': {
        const auto items = pop_to_mark();
        const auto list = top_container(PtValue::Kind::kList);
        for (const Item& item : items) list->value->items.push_back(store_in(*list, item));
        break;
      }
      case 's': {
        const Item value = pop();
        const Item key = pop();
        set_items(*top_container(PtValue::Kind::kDict), {key, value});
        break;
      }
      case 'u': {
        const auto items = pop_to_mark();
        set_items(*top_container(PtValue::Kind::kDict), items);
        break;
      }
      case 'R':
        reduce();
        break;
      case 'Q':
        persistent_id();
        break;
      case 'b': {  // BUILD: an OrderedDict's attributes (_metadata of a state_dict) carry no
                   // tensors
        pop();
        top_container(PtValue::Kind::kDict);
        break;
      }
      case '.': {
        const auto root = as_node(pop());
        if (!root->value || !stack_.empty()) fail("the pickle does not end in one value");
        return root->value;
      }
      default:
        fail("an opcode that is not on the allow-list (nothing was executed)",
             cat("0x", "0123456789abcdef"[opcode >> 4], "0123456789abcdef"[opcode & 15]));
    }
  }
}

void put_text(std::string& out, std::string_view text) {
  out += 'X';
  for (int i = 0; i < 4; ++i) out += static_cast<char>(text.size() >> (8 * i) & 0xFF);
  out += text;
}

void put_integer(std::string& out, int64_t x) {
  if (x >= 0 && x < 256) {
    out += 'K';
    out += static_cast<char>(x);
  } else if (x >= 0 && x <= INT32_MAX) {
    out += 'J';
    for (int i = 0; i < 4; ++i) out += static_cast<char>(x >> (8 * i) & 0xFF);
  } else {
    out += "\x8A\x08";
    for (int i = 0; i < 8; ++i)
      out += static_cast<char>(static_cast<uint64_t>(x) >> (8 * i) & 0xFF);
  }
}

void put_tuple(std::string& out, const std::vector<int64_t>& values) {
  out += '(';
  for (const int64_t v : values) put_integer(out, v);
  out += 't';
}

}  // namespace

PtPointer load(std::string_view pickle, const std::string& where, const StorageLoader& storage) {
  return Machine(pickle, where, storage).run();
}

int64_t element_size(std::string_view dtype) {
  for (const Dtype& d : kDtypes) {
    if (dtype == d.name) return d.size;
  }
  return 0;
}

std::string dump_state(const std::vector<PtNamedTensor>& tensors) {
  std::string out =
      "\x80\x02"
      "ccollections\nOrderedDict\n)R(";
  int64_t index = 0;
  for (const PtNamedTensor& t : tensors) {
    const Dtype* dtype = nullptr;
    for (const Dtype& d : kDtypes) {
      if (t.dtype == d.name) dtype = &d;
    }
    if (dtype == nullptr)
      throw Error(
          {.where = t.name, .what = "dtype cannot be written to a .pt file", .got = t.dtype});
    int64_t elements = 1;
    for (const int64_t n : t.shape) elements *= n;
    std::vector<int64_t> stride(t.shape.size(), 1);
    for (size_t i = t.shape.size(); i-- > 1;)
      stride[i - 1] = stride[i] * std::max<int64_t>(t.shape[i], 1);
    put_text(out, t.name);
    out += "ctorch._utils\n_rebuild_tensor_v2\n((";
    put_text(out, "storage");
    out += cat("ctorch\n", dtype->storage_class, "\n");
    put_text(out, std::to_string(index++));
    put_text(out, "cpu");
    put_integer(out, elements);
    out += "tQ";
    put_integer(out, 0);
    put_tuple(out, t.shape);
    put_tuple(out, stride);
    out +=
        "\x89"
        "ccollections\nOrderedDict\n)RtR";
  }
  return out + "u.";
}

}  // namespace kvlingua::pickle
