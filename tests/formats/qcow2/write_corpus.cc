// Writes every Nth image of the corpus of damaged ones into a directory, as sparse files, with a
// list of their names: for tests/e2e, which shows them to the tools, and as a start for the fuzz
// targets. All of them are some thousands, and a few GiB.
#include <charconv>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/formats/qcow2/corpus.h"

namespace {

// File systems have no room for longer files.
constexpr uint64_t kLongest = uint64_t{1} << 40;

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  unsigned every = 0;
  if (arguments.size() == 2) {
    const std::string& text = arguments[1];
    std::from_chars(text.data(), text.data() + text.size(), every);
  }
  if (every == 0) {
    fmt::print(stderr, "usage: {} DIRECTORY N\n", *argv);
    return 1;
  }
  std::ofstream list(arguments.front() + "/names");
  unsigned number = 0;
  for (const cairn::qcow2::DamagedImage& image : cairn::qcow2::damaged_images()) {
    if (number++ % every != 0 || image.bytes.size() > kLongest) {
      continue;
    }
    const std::string file = fmt::format("{}.qcow2", number);
    const auto saved = image.bytes.save(arguments.front() + "/" + file);
    if (!saved) {
      fmt::print(stderr, "{}: {}\n", file, saved.error().message());
      return 1;
    }
    list << file << ' ' << image.name << '\n';
  }
  return list ? 0 : 1;
}
