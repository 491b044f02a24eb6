// cairn-img: the table of subcommands, and what they share in reading their command lines.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tools/common/options.h"

namespace cairn::tools {

struct ImgCommand {
  std::string_view name;
  std::string_view summary;  // one line, for the program's help
  // What stands behind "Usage: PROG NAME", and the options, in our own words.
  std::string_view synopsis;
  std::string_view details;
  // Gets what follows the subcommand's name; returns the exit code.
  int (*run)(std::span<const std::string> arguments);
};

[[nodiscard]] std::span<const ImgCommand> img_commands();
[[nodiscard]] const ImgCommand* find_img_command(std::string_view name);

// Ids of options without a short name; shared, so that one name means one thing.
enum LongOption : int {
  kOptObject = 256,
  kOptImageOpts,
  kOptTargetImageOpts,
  kOptOutput,
  kOptBackingChain,
  kOptLimits,
  kOptPreallocation,
  kOptShrink,
  kOptTargetIsZero,
  kOptBitmaps,
  kOptSkipBrokenBitmaps,
  kOptSalvage,
  kOptAdd,
  kOptRemove,
  kOptClear,
  kOptEnable,
  kOptDisable,
  kOptMerge,
  kOptForce,
  kOptFlushInterval,
  kOptNoDrain,
  kOptPattern,
  kOptProgress,
  kOptVerify,
  kOptCacheLimit,
  kOptCompressionLevel,
  kOptPolicy,
  kOptResume,
};

inline constexpr OptionSpec kHelpOption{'h', "help", false};
inline constexpr OptionSpec kQuietOption{'q', "quiet", false};
inline constexpr OptionSpec kProgressOption{'p', "progress", false};
inline constexpr OptionSpec kFormatOption{'f', "format", true};
inline constexpr OptionSpec kShareOption{'U', "force-share", false};
inline constexpr OptionSpec kObjectOption{kOptObject, "object", true};
inline constexpr OptionSpec kPolicyOption{kOptPolicy, "policy", true, false, true};
inline constexpr OptionSpec kImageOptsOption{kOptImageOpts, "image-opts", false};
inline constexpr OptionSpec kOutputOption{kOptOutput, "output", true};

// Reads the options of one subcommand; deals itself with help, with objects, with the policy and
// with what is no option at all.
class ImgCommandLine {
 public:
  // `specs` must outlive it.
  ImgCommandLine(std::string_view command, std::span<const std::string> arguments,
                 std::span<const OptionSpec> specs);

  // The next option that is for the subcommand. Nothing at the end, or when the subcommand is to
  // return exit_code().
  [[nodiscard]] std::optional<ParsedOption> next();
  [[nodiscard]] std::optional<int> exit_code() const { return exit_code_; }
  // Whether that is because of an object.
  [[nodiscard]] bool object_refused() const { return object_refused_; }
  [[nodiscard]] std::vector<std::string> operands() const { return reader_.operands(); }

  // Tells what is wrong with the usage and where help is; returns 1.
  int misuse(std::string_view message) const;

 private:
  std::string command_;
  OptionReader reader_;
  std::optional<int> exit_code_;
  bool object_refused_ = false;
};

// The value of --output; nothing, with the error told, for anything but "human" and "json".
[[nodiscard]] std::optional<bool> parse_output_is_json(std::string_view text);

// Tells the error; always 1, the exit code of most failures.
int fail_command(const Error& error);

int img_amend(std::span<const std::string> arguments);
int img_bench(std::span<const std::string> arguments);
int img_bitmap(std::span<const std::string> arguments);
int img_check(std::span<const std::string> arguments);
int img_commit(std::span<const std::string> arguments);
int img_compact(std::span<const std::string> arguments);
int img_compare(std::span<const std::string> arguments);
int img_convert(std::span<const std::string> arguments);
int img_create(std::span<const std::string> arguments);
int img_dd(std::span<const std::string> arguments);
int img_info(std::span<const std::string> arguments);
int img_map(std::span<const std::string> arguments);
int img_measure(std::span<const std::string> arguments);
int img_rebase(std::span<const std::string> arguments);
int img_resize(std::span<const std::string> arguments);
int img_snapshot(std::span<const std::string> arguments);
int img_sparsify(std::span<const std::string> arguments);

}  // namespace cairn::tools
