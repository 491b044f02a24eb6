// cairn-img: creates, describes, checks, compares, converts and resizes images that are not in use.
#include <malloc.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tools/common/drivers.h"
#include "tools/common/report.h"
#include "tools/common/trace.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

constexpr std::string_view kBenchDetails =
    "\n"
    "  -c, --count N         how many requests (default: 75000)\n"
    "  -d, --depth N         how many of them at once (default: 64)\n"
    "  -s, --buffer-size SIZE  bytes of a request (default: 4k)\n"
    "  -o, --offset OFFSET   where the first one begins\n"
    "  -S, --step-size SIZE  how far on the next one begins (default: the size of a request);\n"
    "                        behind the end of the image it goes on from the beginning\n"
    "  -w, --write           write, which the image's content does not survive\n"
    "  --pattern BYTE        what to write (default: 0)\n"
    "  --flush-interval N    flush after every N writes\n"
    "  --no-drain            flush while writes are in flight\n"
    "  -i, --aio HOW         threads, native or io_uring; taken as a hint: see CAIRN_IO\n"
    "  -n, --native          the same as -i native\n"
    "  -t, --cache MODE      how the host's cache is used\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -U, --force-share     read an image that others write\n"
    "  -q, --quiet           accepted\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kBitmapDetails =
    "\n"
    "  --add                 make the bitmap\n"
    "  --remove              remove it\n"
    "  --clear               take all marks out of it\n"
    "  --enable, --disable   make it mark writes, or not\n"
    "  --merge BITMAP        mark what that BITMAP has marked\n"
    "  -b, --source-file FILE      look for that BITMAP in FILE\n"
    "  -F, --source-format FORMAT  format of that FILE\n"
    "  -g, --granularity SIZE      with --add: bytes for each bit\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "Several of the first six are done in their order.\n";

constexpr std::string_view kCheckDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  --output human|json   how to show the outcome\n"
    "  -r, --repair WHAT     repair 'leaks' alone or 'all' that is found\n"
    "  -T, --source-cache MODE  how the host's cache is used\n"
    "  -U, --force-share     look at an image that others write\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "Exit codes: 0 sound, 1 not checked, 2 corrupt, 3 leaks alone, 63 no checks for this format.\n";

constexpr std::string_view kCommitDetails =
    "\n"
    "  -b, --base FILE       commit into this image of the backing chain; implies -d\n"
    "  -d, --drop            leave the image as it is; otherwise it is emptied\n"
    "  -r, --rate-limit RATE most bytes a second\n"
    "  -t, --cache MODE      how the host's cache is used\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "Images between FILE and a base that is not its backing file are of no use afterwards.\n";

constexpr std::string_view kCompactDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -t, --cache MODE      how the host's cache is used\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "For qcow2 without snapshots, bitmaps, encryption, compressed clusters and external data "
    "files.\n"
    "The image reads the same at any moment, also when this is interrupted.\n";

constexpr std::string_view kCompareDetails =
    "\n"
    "  -f, -F FORMAT         format of FILE1 and of FILE2; looked for when not given\n"
    "  --image-opts          the files are lists of options (driver=…,file.filename=…)\n"
    "  -s, --strict          sizes and allocation have to be equal, too\n"
    "  -T, --source-cache MODE  how the host's cache is used\n"
    "  -U, --force-share     read images that others write\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "Exit codes: 0 equal, 1 different, 2 not opened, 3 no block status, 4 not read.\n";

constexpr std::string_view kConvertDetails =
    "\n"
    "  -f, --source-format FORMAT  format of the sources; looked for when not given\n"
    "  --image-opts          the sources are lists of options (driver=…,file.filename=…)\n"
    "  -T, --source-cache MODE     how the host's cache is used for the sources\n"
    "  -O, --target-format FORMAT  format of the target (default: raw)\n"
    "  --target-image-opts   the target is a list of options; needs -n\n"
    "  -o, --target-format-options OPTIONS  how to create the target; -o help lists them\n"
    "  -t, --target-cache MODE     how the host's cache is used for the target\n"
    "  -b, -B, --backing FILE      make the target an overlay of FILE\n"
    "  -F, --backing-format FORMAT format of that FILE\n"
    "  -n, --no-create       write into a target that exists\n"
    "  --target-is-zero      with -n: the target reads as zeroes already\n"
    "  -S, --sparse-size SIZE      shortest run of zeroes to leave out (default: 4k, 0: none)\n"
    "  -m, --parallel N      how many pieces to copy at once (1 to 16, default: 8)\n"
    "  -W, --oob             write in any order\n"
    "  -c, --compress        compress what is written (qcow2, vmdk's streamOptimized)\n"
    "  --compression-level N how hard, for qcow2: 1 is the fastest; to 9 for zlib, 19 for zstd\n"
    "  -r, --rate-limit RATE most bytes a second\n"
    "  --bitmaps             copy the dirty bitmaps of the source, too\n"
    "  --skip-broken-bitmaps       but those that were not saved properly\n"
    "  --salvage             read what can be read; the rest becomes zeroes\n"
    "  -C, --copy-range-offloading  let the host copy where both are files\n"
    "  --resume              leave what is done when it fails, and go on with what is there of it\n"
    "  --verify              read the target once more and compare it with the sources\n"
    "  --cache-limit SIZE    most that is left in the host's cache; 0: no limit (default: a "
    "quarter\n"
    "                        of the memory that a control group allows, and direct I/O where "
    "files\n"
    "                        can have it)\n"
    "  -U, --force-share     read sources that others write\n"
    "  -p, --progress[=json] show how far it is; as lines of JSON\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kCreateDetails =
    "\n"
    "  -f, --format FORMAT   format of the new image (default: raw)\n"
    "  -o, --options OPTIONS how to create it; -o help lists them\n"
    "  -b, --backing FILE    make it an overlay of FILE, whose size it takes unless given\n"
    "  -B, -F, --backing-format FORMAT  format of that FILE\n"
    "  -u, --backing-unsafe  do not look at that FILE\n"
    "  -q, --quiet           show errors alone\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "SIZE is in bytes, or has a suffix: k, M, G, T, P, E.\n";

constexpr std::string_view kDdDetails =
    "\n"
    "  -f, --format FORMAT   format of the source; looked for when not given\n"
    "  --image-opts          SOURCE is a list of options (driver=…,file.filename=…)\n"
    "  -O, --output-format FORMAT  format of the target, which is made anew (default: raw)\n"
    "  -U, --force-share     read a source that others write\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "  bs=SIZE               size of a block (default: 512)\n"
    "  count=N               leave out what lies behind the first N blocks of the source\n"
    "  skip=N                leave out its first N blocks\n";

constexpr std::string_view kInfoDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  --backing-chain       describe the images below, too\n"
    "  -t, --cache MODE      how the host's cache is used\n"
    "  -U, --force-share     look at an image that others write\n"
    "  --output human|json   how to show it\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kMapDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -s, --start-offset N  where to begin\n"
    "  -l, --max-length N    how much to look at\n"
    "  -U, --force-share     look at an image that others write\n"
    "  --output human|json   how to show it\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kMeasureDetails =
    "\n"
    "  -O, --target-format FORMAT  format of the image to be made (default: raw)\n"
    "  -o, --target-format-options OPTIONS  how it would be created; -o help lists them\n"
    "  -s, --size SIZE       size of a disk without content, in place of FILE\n"
    "  -l, --snapshot SNAPSHOT  a snapshot inside FILE in place of its present content\n"
    "  -f, --format FORMAT   format of FILE; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -U, --force-share     look at an image that others write\n"
    "  --output human|json   how to show it\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kResizeDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  --preallocation MODE  how to give space to what is added: off, metadata, falloc, full\n"
    "  --shrink              data beyond the new end may go\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "SIZE is in bytes, or has a suffix: k, M, G, T, P, E; with + or - it is a difference.\n";

constexpr std::string_view kSnapshotDetails =
    "\n"
    "  -l, --list            list the snapshots inside the image (the default)\n"
    "  -c, --create NAME     make a snapshot of the disk as it is\n"
    "  -a, --apply NAME      go back to a snapshot, by id or name\n"
    "  -d, --delete NAME     delete a snapshot, by name\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -U, --force-share     look at an image that others write\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kSparsifyDetails =
    "\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -t, --cache MODE      how the host's cache is used\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n"
    "\n"
    "The image reads the same at any moment, also when this is interrupted.\n";

constexpr std::string_view kRebaseDetails =
    "  -b, --backing FILE    the new backing file; empty: none\n"
    "  -B, -F, --backing-format FORMAT  its format\n"
    "  -u, --backing-unsafe  change the name alone, and so what the image reads as, if the two\n"
    "                        backing files differ\n"
    "  -c, --compress        compress what has to be copied from the old backing file\n"
    "  -t, --cache MODE      how the image is written\n"
    "  -T, --source-cache MODE  how the backing files are read\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -U, --force-share     read backing files that others write\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::string_view kAmendDetails =
    "  -o, --options LIST    the options to change; 'help' lists them (with -f)\n"
    "  -f, --format FORMAT   format of the image; looked for when not given\n"
    "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
    "  -t, --cache MODE      how the image is written\n"
    "  --force               accepted; nothing that can be changed is dangerous\n"
    "  -p, --progress        show how far it is\n"
    "  -q, --quiet           show errors alone\n"
    "  --policy POLICY       trusted, or untrusted: see cairn-img(1)\n"
    "  --object DEFINITION   make an object first, for example a secret\n"
    "  -h, --help            show this text\n";

constexpr std::array kCommands = {
    ImgCommand{"amend", "Changes options that an image was created with.",
               "[-f FORMAT | --image-opts] -o OPTIONS [-t MODE] [--force] [-p] [-q] FILE",
               kAmendDetails, img_amend},
    ImgCommand{"bench", "Measures how long requests take that read or write an image in order.",
               "[-c N] [-d N] [-s SIZE] [-S SIZE] [-o OFFSET] [-w [--pattern BYTE] "
               "[--flush-interval N [--no-drain]]] [-t MODE] [-f FORMAT | --image-opts] [-U] FILE",
               kBenchDetails, img_bench},
    ImgCommand{"bitmap", "Changes the dirty bitmaps that an image keeps.",
               "(--add [-g SIZE] | --remove | --clear | --enable | --disable | --merge BITMAP "
               "[-b FILE [-F FORMAT]])… [-f FORMAT | --image-opts] FILE BITMAP",
               kBitmapDetails, img_bitmap},
    ImgCommand{
        "check", "Looks for errors inside an image.",
        "[-f FORMAT | --image-opts] [--output human|json] [-r WHAT] [-T MODE] [-U] [-q] FILE",
        kCheckDetails, img_check},
    ImgCommand{"commit", "Moves what an image has of its own into its backing file.",
               "[-f FORMAT | --image-opts] [-t MODE] [-b FILE] [-r RATE] [-d] [-p] [-q] FILE",
               kCommitDetails, img_commit},
    ImgCommand{"compact", "Moves what an image stores together and cuts its file, in place.",
               "[-f FORMAT | --image-opts] [-t MODE] [-p] [-q] FILE", kCompactDetails, img_compact},
    ImgCommand{"compare", "Tells whether two images have the same content.",
               "[-f FORMAT] [-F FORMAT] [--image-opts] [-s] [-T MODE] [-U] [-p] [-q] FILE1 FILE2",
               kCompareDetails, img_compare},
    ImgCommand{"convert", "Copies images, one after the other, into one of another kind.",
               "[-f FORMAT] [-O FORMAT] [-o OPTIONS] [-n] [OPTION…] FILE… TARGET", kConvertDetails,
               img_convert},
    ImgCommand{"create", "Makes a new image.",
               "[-f FORMAT] [-o OPTIONS] [-b FILE [-B FORMAT]] [-u] [-q] FILE [SIZE]",
               kCreateDetails, img_create},
    ImgCommand{"dd", "Copies an image or a part of it into a new one.",
               "[-f FORMAT | --image-opts] [-O FORMAT] [-U] [bs=SIZE] [count=N] [skip=N] "
               "if=SOURCE of=TARGET",
               kDdDetails, img_dd},
    ImgCommand{"info", "Describes an image.",
               "[-f FORMAT | --image-opts] [--backing-chain] [-U] [--output human|json] FILE",
               kInfoDetails, img_info},
    ImgCommand{"map", "Shows where the data of an image lies.",
               "[-f FORMAT | --image-opts] [-s N] [-l N] [-U] [--output human|json] FILE",
               kMapDetails, img_map},
    ImgCommand{
        "measure", "Tells how much storage a copy of an image, or a new image, would take.",
        "[-O FORMAT] [-o OPTIONS] [--output human|json] [-s SIZE | [-f FORMAT] [-l SNAPSHOT] [-U] "
        "FILE]",
        kMeasureDetails, img_measure},
    ImgCommand{"rebase", "Gives an image another backing file.",
               "[-f FORMAT | --image-opts] [-b FILE [-B FORMAT]] [-u] [-c] [-t MODE] [-T MODE] "
               "[-U] [-p] [-q] FILE",
               kRebaseDetails, img_rebase},
    ImgCommand{"resize", "Makes an image larger or smaller.",
               "[-f FORMAT | --image-opts] [--preallocation MODE] [--shrink] [-q] FILE [+|-]SIZE",
               kResizeDetails, img_resize},
    ImgCommand{"snapshot", "Manages the snapshots inside an image.",
               "[-f FORMAT | --image-opts] [-U] [-q] [-l | -c NAME | -a NAME | -d NAME] FILE",
               kSnapshotDetails, img_snapshot},
    ImgCommand{"sparsify", "Gives up the space that an image uses for zeroes, in place.",
               "[-f FORMAT | --image-opts] [-t MODE] [-p] [-q] FILE", kSparsifyDetails,
               img_sparsify},
};

void print_help() {
  fmt::print(
      "{}\nUsage: {} [--help | --version] COMMAND [OPTION…]\n\n"
      "Works on disk images that nobody else uses.\n\n"
      "  -h, --help            show this text\n"
      "  -V, --version         show the version\n"
      "  -T, --trace WHAT      accepted; this version has no trace points\n\n"
      "Commands ('{} COMMAND --help' tells more):\n",
      version_line(), program_name(), program_name());
  for (const ImgCommand& command : kCommands) {
    fmt::print("  {} - {}\n", command.name, command.summary);
  }
  const block::DriverTable drivers = all_drivers();
  std::string names;
  for (const block::DriverInfo* driver : drivers.all()) {
    names.append(" ").append(driver->name);
  }
  fmt::print(
      "\nFormats:{}\n\n"
      "The environment variable CAIRN_IO chooses how files are read and written: io_uring, epoll\n"
      "(with threads), or auto.\n",
      names);
}

int usage_error(std::string_view message) {
  if (!message.empty()) {
    report_error(message);
  }
  suggest_help("");
  return 1;
}

// Reads the options before the subcommand; nothing when the subcommand is to run, else the exit
// code. Stops at the first operand.
std::optional<int> read_program_options(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {OptionSpec{'h', "help", false}, OptionSpec{'V', "version", false},
                                 OptionSpec{'T', "trace", true}};
  OptionReader reader(program_name(), arguments, kSpecs);
  while (const auto option = reader.next()) {
    switch (option->id) {
      case 'h':
        print_help();
        return 0;
      case 'V':
        fmt::print("{}\n", version_line());
        return 0;
      case 'T':
        if (int code = 0; !take_trace_option(option->value, code)) {
          return code;
        }
        break;
      default:
        return usage_error("");
    }
  }
  return std::nullopt;
}

int run_command(std::span<const std::string> arguments) {
  const std::string& name = arguments.front();
  if (const ImgCommand* command = find_img_command(name)) {
    return command->run(arguments.subspan(1));
  }
  return usage_error(fmt::format("Command not found: {}", name));
}

int img_main(std::vector<std::string> arguments) {
  // The program's own options are those before the first word that is no option.
  size_t own = 0;
  while (own < arguments.size() && arguments[own].starts_with('-')) {
    own += arguments[own] == "-T" || arguments[own] == "--trace" ? 2 : 1;
  }
  own = std::min(own, arguments.size());
  const std::span<const std::string> all(arguments);
  if (const auto code = read_program_options(all.first(own))) {
    return *code;
  }
  if (own == arguments.size()) {
    return usage_error("Not enough arguments");
  }
  return run_command(all.subspan(own));
}

}  // namespace

std::span<const ImgCommand> img_commands() { return kCommands; }

}  // namespace cairn::tools

namespace {

// Buffers of a mebibyte come and go all the time. The C library would give each back to the kernel,
// which clears its pages when they are asked for again; a command is over soon and can keep them.
void keep_freed_memory() {
  constexpr int kLargestKept = 32 << 20;  // the most that it takes
  constexpr int kMostKept = 256 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargestKept);
  mallopt(M_TRIM_THRESHOLD, kMostKept);
}

}  // namespace

int main(int argc, char** argv) {
  keep_freed_memory();
  cairn::tools::set_program_name(argc > 0 ? argv[0] : "cairn-img");
  const int code = cairn::tools::img_main({argv + std::min(argc, 1), argv + argc});
  return cairn::tools::flush_output() ? code : 1;
}
