// cairn-img resize
#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/size_text.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

struct ResizeRequest {
  ImageName image;
  char sign = 0;  // '+', '-', or 0 for a size
  uint64_t amount = 0;
  block::ResizeOptions options;
  bool preallocation_given = false;
  bool shrink = false;
  bool quiet = false;
};

// Reads "[+|-]SIZE" into the request.
Result<void> parse_amount(std::string_view text, ResizeRequest& request) {
  if (text.starts_with('+') || text.starts_with('-')) {
    request.sign = text.front();
    text.remove_prefix(1);
  }
  const Result<uint64_t> size = parse_size(text);
  if (!size && size.error().code() == ERANGE) {
    return fail(ERANGE, "Value '{}' is out of range for parameter 'size'", text);
  }
  if (!size) {
    return std::unexpected(
        Error(EINVAL, "Parameter 'size' expects a non-negative number below 2^64")
            .with_hint(
                "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                "and exabytes, respectively."));
  }
  request.amount = *size;
  return {};
}

// The size asked for; nothing when it is not positive or no image can have it.
std::optional<uint64_t> new_size(const ResizeRequest& request, uint64_t current) {
  constexpr auto kLargest = static_cast<uint64_t>(INT64_MAX);
  if (request.amount > kLargest) {
    return std::nullopt;
  }
  if (request.sign == '-') {
    return request.amount < current ? std::optional(current - request.amount) : std::nullopt;
  }
  const uint64_t size = request.sign == '+' ? current + request.amount : request.amount;
  return size > 0 && size <= kLargest ? std::optional(size) : std::nullopt;
}

// A size that begins with a minus sign looks like an option. Takes it out of `arguments`.
std::optional<std::string> take_negative_size(std::vector<std::string>& arguments) {
  const auto found = std::ranges::find_if(arguments, [](const std::string& argument) {
    return argument.size() > 1 && argument[0] == '-' &&
           std::isdigit(static_cast<unsigned char>(argument[1])) != 0;
  });
  if (found == arguments.end()) {
    return std::nullopt;
  }
  std::string size = std::move(*found);
  arguments.erase(found);
  return size;
}

io::Task<int> resize_image(block::Edge& root, const ResizeRequest& request) {
  const uint64_t current = root.length();
  const std::optional<uint64_t> size = new_size(request, current);
  if (!size) {
    report_error("New image size must be positive");
    co_return 1;
  }
  if (*size <= current && request.options.preallocation != block::Preallocation::kOff) {
    report_error("Preallocation can only be used for growing images");
    co_return 1;
  }
  if (*size < current && !request.shrink) {
    report_error("Use the --shrink option to perform a shrink operation.");
    report_warning(
        "Shrinking an image will delete all data beyond the shrunken image's end. Before "
        "performing such an operation, make sure there is no important data there.");
    co_return 1;
  }
  Result<void> resized = co_await root.resize(*size, request.options);
  if (!resized) {
    co_return fail_command(resized.error());
  }
  co_return 0;
}

io::Task<int> resize(block::Graph& graph, const ResizeRequest& request) {
  auto root = co_await open_root(graph, request.image, {});
  if (!root) {
    co_return fail_command(root.error());
  }
  block::Permissions permissions = (*root)->permissions();
  permissions.used |= block::PermissionSet::kResize;
  int code = 0;
  if (const auto granted = graph.set_permissions(**root, permissions); granted) {
    code = co_await resize_image(**root, request);
  } else {
    code = fail_command(granted.error());
  }
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (code != 0) {
    co_return code;
  }
  if (!closed) {
    co_return fail_command(closed.error());
  }
  if (!request.quiet) {
    fmt::print("Image resized.\n");
  }
  co_return 0;
}

}  // namespace

int img_resize(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{kOptPreallocation, "preallocation", true},
                                 OptionSpec{kOptShrink, "shrink", false}};
  ResizeRequest request;
  std::vector<std::string> rest(arguments.begin(), arguments.end());
  const std::optional<std::string> difference = take_negative_size(rest);
  ImgCommandLine line("resize", rest, kSpecs);
  while (const auto option = line.next()) {
    switch (option->id) {
      case 'f':
        request.image.give_format(option->value);
        break;
      case 'q':
        request.quiet = true;
        break;
      case kOptImageOpts:
        request.image.by_options = true;
        break;
      case kOptShrink:
        request.shrink = true;
        break;
      case kOptPreallocation: {
        const auto mode = parse_preallocation(option->value);
        if (!mode) {
          return fail_command(mode.error());
        }
        request.options.preallocation = *mode;
        break;
      }
    }
  }
  if (line.exit_code()) {
    return *line.exit_code();
  }
  std::vector<std::string> operands = line.operands();
  if (difference) {
    operands.push_back(*difference);
  }
  if (operands.size() < 2) {
    return line.misuse("Expecting image file name and size");
  }
  if (operands.size() > 2) {
    return line.misuse("Extra argument(s) in command line");
  }
  request.image.text = operands.front();
  if (const auto parsed = parse_amount(operands[1], request); !parsed) {
    return fail_command(parsed.error());
  }
  if (const auto code = check_image_name(request.image)) {
    return *code;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  return (*session)->run(resize((*session)->graph(), request));
}

}  // namespace cairn::tools
