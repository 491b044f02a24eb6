// Opening the image that an object of options describes: what people leave out is filled in, and
// what is wrong is said in the words of the offline tools.
#include "tools/common/described_image.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "schema/json.h"
#include "schema/visit_block_options.h"
#include "tools/common/encryption.h"
#include "tools/common/image_options.h"
#include "tools/common/named_backing.h"
#include "tools/common/option_words.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

using schema::JsonObject;
using schema::JsonValue;

// Options that make an image another image, so that they are part of its name.
constexpr std::array<std::string_view, 6> kNamingOptions = {"offset",     "size",   "read-zeroes",
                                                            "key-secret", "header", "encrypt"};

// Which format lies in the file that `file` describes.
io::Task<Result<std::string>> probe_format(block::Graph& graph, JsonObject file) {
  const std::string filename = "json:" + to_text(JsonValue(std::move(file)));
  const block::OpenFlags flags{
      .read_only = true, .no_backing = true, .no_io = true, .force_share = true};
  auto node = co_await graph.open_filename(filename, "", flags);
  if (!node) {
    co_return pass(node);
  }
  std::string name((*node)->info().name);
  Result<void> released = co_await graph.release(std::move(*node));
  co_return name;
}

// What a child has to say of itself when its parent is a format, whose file is not guessed at.
Result<void> check_child(const block::Graph& graph, const JsonObject& parent, std::string_view name,
                         const JsonObject& child) {
  const std::string* driver = text_of(child, "driver");
  if (name == "data-file" && driver == nullptr && text_of(child, "filename") == nullptr &&
      child.find("file") == nullptr) {
    return fail(EINVAL, "Must specify either driver or file");
  }
  if (name == "file" && child.empty()) {
    return fail(EINVAL, "A block device must be specified for \"file\"");
  }
  const block::DriverInfo* format = driver_of(graph, parent);
  const bool guessed = format != nullptr && format->kind != block::DriverInfo::Kind::kFormat;
  if (name == "file" && !guessed && driver == nullptr && text_of(child, "filename") == nullptr) {
    return fail(EINVAL, "Must specify either driver or file");
  }
  return {};
}

io::Task<Result<JsonObject>> complete_options(block::Graph& graph, JsonObject object, bool top,
                                              bool* probed);

// The children but for the backing file, which depends on what the image is.
io::Task<Result<JsonObject>> complete_children(block::Graph& graph, JsonObject object,
                                               bool* probed) {
  if (schema::JsonValue* list = object.find("children"); list != nullptr && list->as_array()) {
    for (JsonValue& child : *list->as_array()) {
      if (child.as_object() == nullptr) {
        continue;
      }
      Result<JsonObject> completed =
          co_await complete_options(graph, *child.as_object(), false, probed);
      if (!completed) {
        co_return completed;
      }
      child = JsonValue(std::move(*completed));
    }
  }
  for (const std::string_view name :
       {"file", "data-file", "header", "image", "raw", "test", "log"}) {
    JsonValue* child = object.find(name);
    if (child == nullptr || child->as_object() == nullptr) {
      continue;
    }
    if (auto named = check_child(graph, object, name, *child->as_object()); !named) {
      co_return pass(named);
    }
    Result<JsonObject> completed =
        co_await complete_options(graph, *child->as_object(), false, probed);
    if (!completed) {
      co_return completed;
    }
    put(object, name, JsonValue(std::move(*completed)));
  }
  co_return object;
}

// The driver, when it is left out: a file for a filename, what a probe says for the rest.
io::Task<Result<JsonObject>> complete_driver(block::Graph& graph, JsonObject object, bool top,
                                             bool* probed) {
  if (object.find("driver") != nullptr) {
    co_return object;
  }
  if (!top && text_of(object, "filename") != nullptr) {
    object.add("driver", "file");
    co_return object;
  }
  const JsonValue* file = object.find("file");
  if (top && file == nullptr) {
    co_return fail(EINVAL, "Must specify either driver or file");
  }
  if (file == nullptr || file->as_object() == nullptr) {
    co_return fail(EINVAL, "A block device must be specified for \"file\"");
  }
  Result<std::string> format = co_await probe_format(graph, *file->as_object());
  if (!format) {
    co_return pass(format);
  }
  *probed = *probed || top;
  object.add("driver", std::move(*format));
  co_return object;
}

// The backing file; of the topmost image it may be one that nobody opens: see take_idle_backing().
io::Task<Result<JsonObject>> complete_below(block::Graph& graph, JsonObject object, bool top,
                                            bool* probed) {
  if (const JsonValue* given = object.find("backing");
      given == nullptr || given->as_object() == nullptr) {
    co_return object;
  }
  const block::DriverInfo* info = driver_of(graph, object);
  if (!top && info != nullptr && !info->supports_backing) {
    co_return fail(EINVAL, "Driver doesn't support backing files");
  }
  Result<JsonObject> whole = co_await complete_backing(graph, std::move(object));
  if (!whole) {
    co_return whole;
  }
  const JsonObject& backing = *whole->find("backing")->as_object();
  const std::string* driver = text_of(backing, "driver");
  if (driver != nullptr && graph.drivers().find(*driver) == nullptr) {
    co_return fail(ENOENT, "{}Unknown driver '{}'", kAboutBacking, *driver);
  }
  Result<JsonObject> completed = co_await complete_options(graph, backing, false, probed);
  if (!completed) {
    co_return pass(completed, kAboutBacking);
  }
  put(*whole, "backing", JsonValue(std::move(*completed)));
  co_return whole;
}

// Fills in what people leave out: drivers, and what an image itself says of its backing file. Sets
// `probed` when the top's format was guessed.
io::Task<Result<JsonObject>> complete_options(block::Graph& graph, JsonObject object, bool top,
                                              bool* probed) {
  if (auto sizes = normalize_options(object); !sizes) {
    co_return pass(sizes);
  }
  Result<JsonObject> completed = co_await complete_children(graph, std::move(object), probed);
  if (completed) {
    completed = co_await complete_driver(graph, std::move(*completed), top, probed);
  }
  if (completed) {
    completed = co_await complete_encryption(graph, std::move(*completed));
  }
  if (completed) {
    completed = co_await complete_below(graph, std::move(*completed), top, probed);
  }
  co_return completed;
}

// Formats need a file. (Protocols bring their own; a quorum has children instead.)
Result<void> require_file(const block::Graph& graph, const JsonObject& object) {
  const std::string* driver = text_of(object, "driver");
  const block::DriverInfo* info = driver_of(graph, object);
  if (driver != nullptr && info == nullptr) {
    return fail(ENOENT, "Unknown driver '{}'", *driver);
  }
  if (auto there = require_children(object); !there) {
    return there;
  }
  if (info != nullptr && (info->name == "file" || info->name == "host_device") &&
      object.find("filename") == nullptr) {
    return fail(EINVAL, "The '{}' block driver requires a file name", info->name);
  }
  if (info != nullptr && info->name == "nbd" && object.find("server") == nullptr &&
      object.find("path") == nullptr && object.find("host") == nullptr) {
    return fail(EINVAL, "NBD server address missing");
  }
  if (info != nullptr && info->kind != block::DriverInfo::Kind::kProtocol &&
      object.find("file") == nullptr && info->name != "quorum") {
    return fail(EINVAL, "A block device must be specified for \"file\"");
  }
  return {};
}

// Gives the node a name that says all that makes its content.
void name_node(block::Node& node, const JsonObject& as_given, const JsonObject& completed) {
  const bool named = std::ranges::any_of(as_given, [](const JsonObject::Member& member) {
    return std::ranges::find(kNamingOptions, member.first) != kNamingOptions.end();
  });
  if (!named) {
    return;
  }
  JsonObject name;
  for (const auto& [key, value] : completed) {
    if (key == "encrypt" && value.as_object() != nullptr) {
      if (const std::string* secret = text_of(*value.as_object(), "key-secret")) {
        name.add("encrypt.key-secret", *secret);
      }
      continue;
    }
    const JsonValue* given = as_given.find(key);
    name.add(key, given != nullptr && !given->is_object() ? *given : value);
  }
  name.sort();
  node.set_filename("json:" + to_text(JsonValue(std::move(name))));
}

// What is wrong with a file that is a reference to a node, of which there are none here, or
// nothing.
std::unexpected<Error> no_object(const std::string* reference) {
  if (reference == nullptr) {
    return fail(EINVAL, "A block device must be specified for \"file\"");
  }
  return fail(ENODEV, "Cannot find device='{0}' nor node-name='{0}'", *reference);
}

bool names_backing(const JsonValue& backing) {
  return backing.as_string() != nullptr ||
         (backing.as_object() != nullptr && !backing.as_object()->empty());
}

// Takes out of `given` a backing file that nobody opens: because there is to be none, because the
// format has none, or because the value names none. Returns what is to be refused once the image is
// there; see idle_backing_error().
std::optional<JsonValue> take_idle_backing(const block::Graph& graph, JsonObject& given,
                                           block::OpenFlags& flags) {
  const JsonValue* backing = given.find("backing");
  if (backing == nullptr) {
    return std::nullopt;
  }
  const std::string* name = backing->as_string();
  if (backing->is_null() || (name != nullptr && name->empty())) {
    if (name != nullptr) {
      report_warning("Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
    }
    (void)given.take("backing");
    flags.no_backing = true;
    return std::nullopt;
  }
  const block::DriverInfo* info = driver_of(graph, given);
  const bool can_have_one = info == nullptr || info->supports_backing;
  if (names_backing(*backing) && can_have_one && !flags.no_backing) {
    return std::nullopt;
  }
  return given.take("backing");
}

Error idle_backing_error(const block::Graph& graph, JsonObject options, const JsonValue& backing,
                         const block::OpenFlags& flags) {
  if (names_backing(backing) && !flags.no_backing) {
    return Error(EINVAL, "Driver doesn't support backing files");
  }
  put(options, "backing", backing);
  return unknown_option(graph, options, "backing");
}

io::Task<Result<std::shared_ptr<block::Node>>> open_described(block::Graph& graph, JsonObject given,
                                                              block::OpenFlags flags) {
  const std::string* wanted = text_of(given, "driver");
  if (wanted != nullptr && graph.drivers().find(*wanted) == nullptr) {
    co_return fail(ENOENT, "Unknown driver '{}'", *wanted);
  }
  if (given.find("driver") != nullptr && flags.force_share && !flags.read_only) {
    co_return fail(EINVAL, "force-share=on can only be used with read-only images");
  }
  std::optional<JsonValue> idle_backing = take_idle_backing(graph, given, flags);
  if (const JsonValue* driver = given.find("driver"); driver && driver->as_string() == nullptr) {
    (void)given.take("driver");  // names none
  }
  if (const JsonValue* file = given.find("file"); file && file->as_object() == nullptr) {
    co_return no_object(file->as_string());
  }
  if (auto ok = require_file(graph, given); !ok) {
    co_return pass(ok);
  }
  Result<JsonObject> completed = co_await complete_options(graph, given, true, &flags.probed);
  if (!completed) {
    co_return pass(completed);
  }
  if (!idle_backing) {
    idle_backing = take_idle_backing(graph, *completed, flags);  // the driver is known now
  }
  Result<schema::BlockdevOptions> options = decode_options(graph, *completed);
  // The image has to be there before it matters what is unknown to its driver.
  std::optional<Error> unknown;
  for (std::string name; !options && !(name = unknown_option_of(options.error())).empty();
       options = decode_options(graph, *completed)) {
    const std::string member = name.substr(0, name.find('.'));
    if (completed->find(member) == nullptr) {
      break;  // it is further below
    }
    (void)completed->take(member);
    unknown = unknown ? unknown : options.error();
  }
  if (!options) {
    co_return std::unexpected(options.error());
  }
  auto node = co_await graph.open(*options, flags);
  // An object without anything in it is about the backing file that there is.
  const bool about_it = node && idle_backing && idle_backing->is_object() &&
                        !names_backing(*idle_backing) && (*node)->backing() != nullptr;
  if (idle_backing && !unknown && !about_it) {
    unknown = idle_backing_error(graph, *completed, *idle_backing, flags);
  }
  if (node && unknown) {
    Result<void> released = co_await graph.release(std::move(*node));
    co_return std::unexpected(std::move(*unknown));
  }
  if (node) {
    name_node(**node, given, *completed);
  }
  co_return node;
}

}  // namespace

JsonObject file_alone(const block::Graph& graph, const JsonObject& options) {
  const std::string* driver = text_of(options, "driver");
  const JsonValue* file = options.find("file");
  if (driver == nullptr || graph.drivers().find(*driver) == nullptr || file == nullptr ||
      file->as_object() == nullptr) {
    return {};
  }
  JsonObject alone = *file->as_object();
  if (alone.find("driver") == nullptr && text_of(alone, "filename") != nullptr) {
    alone.add("driver", "file");
  }
  return alone;
}

io::Task<Result<std::shared_ptr<block::Node>>> open_described_image(block::Graph& graph,
                                                                    JsonObject options,
                                                                    block::OpenFlags flags) {
  JsonObject file = file_alone(graph, options);
  auto node = co_await open_described(graph, std::move(options), flags);
  if (node || file.empty()) {
    co_return node;
  }
  auto below = co_await open_described(graph, std::move(file), flags);
  if (!below) {
    co_return below;
  }
  Result<void> released = co_await graph.release(std::move(*below));
  static_cast<void>(released);
  co_return node;
}

}  // namespace cairn::tools
