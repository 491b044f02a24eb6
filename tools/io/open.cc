// cairn-io: opening, closing and reopening the image.
#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include "block/filename.h"
#include "schema/json.h"
#include "schema/json_stream.h"
#include "schema/visit_block_options.h"
#include "tools/common/options.h"
#include "tools/common/overlay.h"
#include "tools/common/report.h"
#include "tools/io/io.h"

namespace cairn::tools {
namespace {

// A filename as a value in a list of options.
std::string escape_commas(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    escaped.append(c == ',' ? 2 : 1, c);
  }
  return escaped;
}

// The members of a description as options of the node "file", for a list of options.
void append_options(std::string& list, const std::string& path, const schema::JsonValue& value) {
  if (const schema::JsonObject* object = value.as_object()) {
    for (const auto& [name, member] : *object) {
      append_options(list, fmt::format("{}.{}", path, name), member);
    }
  } else if (const std::string* text = value.as_string()) {
    list += fmt::format(",{}={}", path, escape_commas(*text));
  } else {
    list += fmt::format(",{}={}", path, schema::to_text(value));
  }
}

// What a filename stands for, as options of the node "file". A name with a protocol says more than
// where a file is; what can not be read as one is a path.
std::string file_options(const std::string& filename) {
  std::string list;
  if (!block::protocol_prefix(filename).empty()) {
    if (const auto described = block::parse_filename(filename)) {
      append_options(list, "file", schema::to_json(*described));
      return list;
    }
  }
  return ",file.filename=" + escape_commas(filename);
}

// The name under which an image with options is opened.
ImageName name_with_options(const IoOpenRequest& request) {
  ImageName name = request.image;
  if (request.options.empty()) {
    return name;
  }
  std::string text = request.options;
  if (name.by_options) {
    text = name.text + "," + text;
  } else {
    if (!name.text.empty()) {
      text += file_options(name.text);
    }
    if (!name.format.empty()) {
      text += ",driver=" + name.format;
    }
  }
  return {.text = std::move(text), .by_options = true, .implied_key = ""};
}

block::OpenFlags flags_of(const IoOpenRequest& request) {
  return {.read_only = request.read_only || request.snapshot,
          .force_share = request.force_share,
          .discard_unmap = request.discard,
          .cache_direct = request.cache.direct,
          .no_flush = request.cache.no_flush};
}

using OpenedNode = Result<std::shared_ptr<block::Node>>;

// A filter above `node` that keeps what is read from backing images.
io::Task<OpenedNode> open_copy_on_read(block::Graph& graph, std::shared_ptr<block::Node> node) {
  if (node->read_only()) {
    co_return fail(EACCES, "Can't use copy-on-read on read-only device");
  }
  schema::BlockdevOptionsCor filter;
  filter.file.value = node->name();
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kCopyOnRead;
  options.discard = schema::BlockdevDiscardOptions::kUnmap;  // as the node below says
  options.branch = std::move(filter);
  co_return co_await graph.open(options);
}

io::Task<OpenedNode> open_node(block::Graph& graph, const IoOpenRequest& request) {
  const ImageName name = name_with_options(request);
  const block::OpenFlags flags = flags_of(request);
  std::string_view wrong;
  if (request.native_aio && !request.cache.direct) {
    wrong = kNativeThroughCache;
  } else if (request.copy_on_read && request.read_only) {
    wrong = "Can't use copy-on-read on read-only device";
  }
  if (!wrong.empty()) {
    Error refused = co_await refuse_open(graph, name, flags, wrong);
    co_return std::unexpected(std::move(refused));
  }
  OpenedNode node = co_await open_image(graph, name, flags);
  if (node && (*node)->read_only() && !flags.read_only) {
    Result<void> released = co_await graph.release(std::move(*node));
    co_return fail(EPERM, "Block node is read-only");
  }
  for (const bool overlay : {true, false}) {
    if (!node || !(overlay ? request.snapshot : request.copy_on_read)) {
      continue;
    }
    OpenedNode above;
    if (overlay) {
      above = co_await open_overlay(graph, *node);
    } else {
      above = co_await open_copy_on_read(graph, *node);
    }
    if (!above) {
      Result<void> released = co_await graph.release(std::move(*node));
    }
    node = std::move(above);
  }
  co_return node;
}

// The words for an image that can not be opened.
Error failure(const IoOpenRequest& request, Error error) {
  const bool named =
      !request.image.by_options && (!request.image.text.empty() || request.options.empty());
  return std::move(error).prefix(named ? fmt::format("can't open device {}: ", request.image.text)
                                       : "can't open: ");
}

// Options that open and the program's command line have in common. Nothing when `option` is none of
// them; false, with the reason told, for a bad value.
std::optional<bool> take_mode(const ParsedOption& option, IoOpenRequest& request) {
  switch (option.id) {
    case 't': {
      const auto mode = parse_cache_mode(option.value);
      if (!mode) {
        report_error(fmt::format("Invalid cache option: {}", option.value));
        return false;
      }
      request.cache = *mode;
      return true;
    }
    case 'd': {
      const auto mode = parse_discard_mode(option.value);
      if (!mode) {
        report_error(fmt::format("Invalid discard option: {}", option.value));
        return false;
      }
      request.discard = *mode;
      return true;
    }
    case 'i':
      if (option.value != "threads" && option.value != "native" && option.value != "io_uring") {
        report_error(fmt::format("Invalid aio option: {}", option.value));
        return false;
      }
      request.native_aio = request.native_aio || option.value == "native";
      return true;
    default:
      return std::nullopt;
  }
}

// Where "Parameter 'x' is unexpected" and its like name an option.
std::string_view quoted_part(std::string_view message) {
  const size_t end = message.rfind('\'');
  const size_t begin = end == message.npos ? end : message.rfind('\'', end - 1);
  return begin == message.npos ? std::string_view() : message.substr(begin + 1, end - begin - 1);
}

}  // namespace

Result<void> IoShell::open(IoOpenRequest request) {
  if (is_open()) {
    std::fflush(stdout);
    return fail(EBUSY, "file open already, try 'help close'");
  }
  auto agreed = check_sharing(name_with_options(request), flags_of(request), "-U");
  if (!agreed) {
    return agreed;
  }
  auto node = session_.run(open_node(session_.graph(), request));
  if (!node) {
    return std::unexpected(failure(request, std::move(node.error())));
  }
  if (request.snapshot && request.read_only) {
    const Result<void> released = session_.run(session_.graph().release(std::move(*node)));
    return fail(EPERM, "Block node is read-only");
  }
  request.image.guess_told = true;
  request_ = std::move(request);
  return attach(std::move(*node));
}

Result<void> IoShell::attach(std::shared_ptr<block::Node> node) {
  auto root = session_.graph().attach(node, "", root_permissions(*node));
  if (!root) {
    const Result<void> released = session_.run(session_.graph().release(std::move(node)));
    return std::unexpected(failure(request_, std::move(root.error())));
  }
  root_ = std::move(*root);
  return {};
}

void IoShell::close() {
  wait_for_background();
  if (!is_open()) {
    return;
  }
  const Result<void> closed = session_.run(session_.graph().detach(std::move(root_)));
  // A flush that fails without more to say is told of by whoever asks for one.
  if (!closed && closed.error().message() != Error::from_errno(closed.error().code()).message()) {
    report_error(closed.error());
  }
}

int io_open(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'s', nullptr, false}, OptionSpec{'C', nullptr, false},
                                 OptionSpec{'r', nullptr, false}, OptionSpec{'n', nullptr, false},
                                 OptionSpec{'k', nullptr, false}, OptionSpec{'o', nullptr, true},
                                 OptionSpec{'i', nullptr, true},  OptionSpec{'t', nullptr, true},
                                 OptionSpec{'d', nullptr, true},  OptionSpec{'U', nullptr, false}};
  IoOpenRequest request;
  OptionReader reader(arguments[0], std::span(arguments).subspan(1), kSpecs);
  while (const auto option = reader.next()) {
    if (const auto taken = take_mode(*option, request)) {
      if (!*taken) {
        return 1;
      }
      continue;
    }
    switch (option->id) {
      case 's':
        request.snapshot = true;
        break;
      case 'C':
        request.copy_on_read = true;
        break;
      case 'r':
        request.read_only = true;
        break;
      case 'n':
        request.cache.direct = true;
        break;
      case 'k':
        request.native_aio = true;
        break;
      case 'o':
        request.options += (request.options.empty() ? "" : ",") + option->value;
        break;
      case 'U':
        request.force_share = true;
        break;
      default:
        print_io_usage("open");
        return 1;
    }
  }
  const std::vector<std::string> operands = reader.operands();
  if (operands.size() > 1 || (operands.empty() && request.options.empty())) {
    print_io_usage("open");
    return 1;
  }
  request.image.text = operands.empty() ? "" : operands.front();
  if (const auto opened = shell.open(std::move(request)); !opened) {
    report_error(opened.error());
    return 1;
  }
  return 0;
}

int io_close(IoShell& shell, const IoArguments& /*arguments*/) {
  shell.close();
  return 0;
}

int io_reopen(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'c', nullptr, true}, OptionSpec{'o', nullptr, true},
                                 OptionSpec{'r', nullptr, false}, OptionSpec{'w', nullptr, false}};
  const IoOpenRequest before = shell.request();
  IoOpenRequest request = before;
  bool mode_given = false;
  OptionReader reader(arguments[0], std::span(arguments).subspan(1), kSpecs);
  while (const auto option = reader.next()) {
    if (option->id == 'r' || option->id == 'w') {
      if (mode_given) {
        report_error("Only one -r/-w option may be given");
        return 1;
      }
      mode_given = true;
      request.read_only = option->id == 'r';
    } else if (option->id == 'c') {
      const ParsedOption cache{.id = 't', .value = option->value};
      if (!*take_mode(cache, request)) {
        return 1;
      }
    } else if (option->id == 'o') {
      request.options += (request.options.empty() ? "" : ",") + option->value;
    } else {
      print_io_usage("reopen");
      return 1;
    }
  }
  if (!reader.operands().empty()) {
    print_io_usage("reopen");
    return 1;
  }
  shell.close();
  Result<void> opened = shell.open(request);
  if (opened) {
    return 0;
  }
  const std::string_view option = quoted_part(opened.error().message());
  report_error(request.options != before.options && !option.empty()
                   ? Error(EINVAL, fmt::format("Cannot change the option '{}'", option))
                   : std::move(opened.error()));
  if (const auto reopened = shell.open(before); !reopened) {
    report_error(reopened.error());
  }
  return 1;
}

}  // namespace cairn::tools
