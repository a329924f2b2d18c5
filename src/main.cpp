// The program: reads the command line by the verbs' declarations (verbs/list.h), answers --help,
// --version and `recipe`, and loads the library with the other verbs' actions only when it is
// needed, because libtorch and CUDA take seconds to load.
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/base/guard.h"
#include "kvlingua/config/command_line.h"
#include "kvlingua/config/options_json.h"
#include "verbs/list.h"

namespace {

using namespace kvlingua;

int run_main_library(const ParsedCommandLine& parsed) {
  // Libraries find their own files from there, and end the process where they cannot.
  std::error_code gone;
  const auto here_now = std::filesystem::current_path(gone);
  if (gone || here_now.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "the working folder",
                 .what = "is not there any more",
                 .got = gone.message(),
                 .remedy = "change to one that is (cd)"});
  }
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::filesystem::path library = here.parent_path() / "lib" / "libkvlingua_main.so";
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    throw Error({.where = library.string(),
                 .what = "cannot be loaded",
                 .got = printable(reason == nullptr ? "" : reason, 300),
                 .remedy = "run scripts/setup.sh and build again"});
  }
  using Main = int (*)(const ParsedCommandLine&);
  const auto entry = reinterpret_cast<Main>(dlsym(handle, "kvlingua_main"));
  if (entry == nullptr) {
    throw Error(
        {.where = library.string(), .what = "is not of this version", .remedy = "build again"});
  }
  return entry(parsed);
}

// Started with descriptors 0, 1 or 2 closed (cron, daemons), the next file opened would get their
// numbers and the log be written into it.
void open_standard_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
  }
}

// Also of a command line that cannot be read.
bool wants_json_on_stdout(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json=-" || (word == "--json" && i + 1 < argc && std::string(argv[i + 1]) == "-"))
      return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  // A reader that goes away is an error of the write, with a line of its own.
  std::signal(SIGPIPE, SIG_IGN);
  // A file that outgrows a limit (ulimit -f) too.
  std::signal(SIGXFSZ, SIG_IGN);
  install_terminate_line();
  if (wants_json_on_stdout(argc, argv)) tell_failures_to(write_failure);
  const int code = guarded([&] {
    const ParsedCommandLine parsed =
        parse_command_line(verbs::all_verbs<false>(), argc, argv, KVLINGUA_VERSION);
    if (!parsed.answer.empty()) {
      write_stdout(parsed.answer);
      return 0;
    }
    if (parsed.verb->run) return parsed.verb->run(parsed.command, parsed.options.get());
    return run_main_library(parsed);
  });
  std::fflush(stdout);
  std::fflush(stderr);
  // Destructors of loaded libraries (CUDA, OpenMP) have nothing to save and may take long or crash
  // at exit.
  _exit(code);
}
