// The two models: the *source*, whose cache is read, and the *target*, which continues from it.
#pragma once

#include <string>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct ModelOptions {
  std::string name;  // directory, .gguf file, or a hub name in the local Hugging Face cache
  std::string revision = "main";
  std::string dtype = "auto";
  std::string chat = "auto";
  std::string system;
  bool thinking = false;
  bool layer_streaming = false;
  std::string weights = "auto";
  bool double_quantization = true;

  template <class V>
  void visit(V& v) {
    v.field("name", name,
            {.help = "directory, .gguf file, or hub name in the local Hugging Face cache",
             .required = true});
    v.field("revision", revision, {.help = "branch, tag or commit of a hub name"});
    v.field(
        "dtype", dtype,
        {.help =
             "compute type; auto: float32 on the CPU, bfloat16 on a GPU that has it, else float16",
         .choices = {"auto", "float32", "bfloat16", "float16"}});
    v.field("chat", chat,
            {.help = "chat template family; auto: recognised from the model's own template",
             .choices = {"auto", "qwen2.5", "qwen2", "chatml", "qwen3", "smollm2", "zephyr",
                         "llama3", "llama3.1", "plain"}});
    v.field("system", system, {.help = "system prompt; empty: what the template does by itself"});
    v.field("thinking", thinking,
            {.help = "Qwen3: leave thinking on (default: the empty think block)"});
    v.field("layer_streaming", layer_streaming,
            {.help = "keep two layers on the device at a time, one computed while the other "
                     "comes, for small cards"});
    v.field("weights", weights,
            {.help = "how the layers' matrices are held: dense (the compute type), nf4 (4 bits, as "
                     "bitsandbytes), int8 (by rows); auto: as the files hold them",
             .choices = {"auto", "dense", "nf4", "int8"}});
    v.field(
        "double_quantization", double_quantization,
        {.help = "nf4 made at load: quantise its scales too, 4.13 instead of 4.5 bits a weight"});
    v.require(!thinking || chat == "auto" || chat == "qwen3", "thinking",
              "is of chat qwen3 alone; set it to false");
  }
};

struct PairOptions {
  ModelOptions source;
  ModelOptions target;
  std::string alignment = "last_char";
  std::string device = "auto";

  template <class V>
  void visit(V& v) {
    v.section("source", source, "the model whose cache is read");
    v.section("target", target, "the model that continues from the translated cache");
    v.field("alignment", alignment,
            {.help = "which source token a target token takes",
             .choices = {"identity", "last_char", "first", "longest"}});
    v.field("device", device, {.help = "auto, cpu, cuda or cuda:N; --device wins"});
  }
};

}  // namespace kvlingua
