#include "tools/common_image.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/size_text.h"
#include "block/filename.h"
#include "schema/json.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"
#include "schema/visit_block_options.h"
#include "tools/common_encryption.h"
#include "tools/common_option_words.h"
#include "tools/common_report.h"

namespace cairn::tools {
namespace {

using block::PermissionSet;
using schema::JsonObject;
using schema::JsonValue;

// Options that take a size with a suffix on command lines, although their type is a plain number.
constexpr std::string_view kSizes[] = {
    "size",           "offset",      "cache-size",   "l2-cache-size",   "l2-cache-entry-size",
    "latency-ns",     "align",       "max-transfer", "opt-write-zero",  "refcount-cache-size",
    "max-write-zero", "opt-discard", "max-discard",  "log-sector-size", "prealloc-align",
    "prealloc-size"};
// Options that make an image another image, so that they are part of its name.
constexpr std::array<std::string_view, 6> kNamingOptions = {"offset",     "size",   "read-zeroes",
                                                            "key-secret", "header", "encrypt"};

const std::string* text_of(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value != nullptr ? value->as_string() : nullptr;
}

// Replaces what is there.
void put(JsonObject& object, std::string_view name, JsonValue value) {
  (void)object.take(name);
  object.add(std::string(name), std::move(value));
}

void normalize_sizes(JsonObject& object) {
  for (const std::string_view name : kSizes) {
    if (const std::string* text = text_of(object, name)) {
      if (const auto size = parse_size(*text)) {
        put(object, name, std::to_string(*size));
      }
    }
  }
}

// An option that a driver does not have, said in the words that name the driver. `path` leads to
// it: "file.nosuch".
Error unknown_option(const block::Graph& graph, const JsonObject& root, std::string_view path) {
  const JsonObject* object = &root;
  std::string_view rest = path;
  for (size_t dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
    const JsonValue* child = object->find(rest.substr(0, dot));
    if (child == nullptr || child->as_object() == nullptr) {
      break;
    }
    object = child->as_object();
    rest.remove_prefix(dot + 1);
  }
  const std::string* driver = text_of(*object, "driver");
  const block::DriverInfo* info = driver != nullptr ? graph.drivers().find(*driver) : nullptr;
  if (info == nullptr) {
    return Error(EINVAL, fmt::format("Parameter '{}' is unexpected", path));
  }
  if (info->kind == block::DriverInfo::Kind::kProtocol) {
    return Error(EINVAL, fmt::format("Block protocol '{}' doesn't support the option '{}'",
                                     info->name, rest));
  }
  return Error(EINVAL,
               fmt::format("Block format '{}' does not support the option '{}'", info->name, rest));
}

// Numbers and booleans as a list of options on the command line would hold them.
JsonValue as_text(const JsonValue& value) {
  if (const JsonObject* object = value.as_object()) {
    JsonObject text;
    for (const auto& [name, member] : *object) {
      text.add(name, as_text(member));
    }
    return text;
  }
  if (const schema::JsonArray* array = value.as_array()) {
    schema::JsonArray text;
    for (const JsonValue& element : *array) {
      text.push_back(as_text(element));
    }
    return text;
  }
  if (const bool* flag = value.as_bool()) {
    return *flag ? "on" : "off";
  }
  return value.is_number() ? JsonValue(to_text(value)) : value;
}

// The mode of overlap checks in the words that the tools have for it; those of the schema name the
// member alone.
Result<void> check_overlap_mode(const JsonObject& object) {
  const std::string* mode = text_of(object, "overlap-check");
  if (const JsonValue* value = object.find("overlap-check");
      value != nullptr && value->as_object() != nullptr) {
    mode = text_of(*value->as_object(), "template");
  }
  if (mode != nullptr && !schema::from_string<schema::Qcow2OverlapCheckMode>(*mode)) {
    return fail(EINVAL,
                "Unsupported value '{}' for qcow2 option 'overlap-check'. Allowed are any of the "
                "following: none, constant, cached, all",
                *mode);
  }
  return {};
}

Result<schema::BlockdevOptions> decode_options(const block::Graph& graph,
                                               const JsonObject& object) {
  if (auto known = check_overlap_mode(object); !known) {
    return std::unexpected(known.error());
  }
  const JsonValue value = as_text(object);
  schema::Reading reading{.form = schema::InputForm::kKeyval, .error = {}};
  schema::BlockdevOptions options;
  if (schema::read(schema::Input(reading, value), options)) {
    return options;
  }
  const std::string& message = reading.error->message();
  constexpr std::string_view kBegin = "Parameter '";
  constexpr std::string_view kEnd = "' is unexpected";
  if (message.starts_with(kBegin) && message.ends_with(kEnd)) {
    return std::unexpected(
        unknown_option(graph, object,
                       std::string_view(message).substr(
                           kBegin.size(), message.size() - kBegin.size() - kEnd.size())));
  }
  return fail(reading.error->code(), "{}", in_words_of_tools(message));
}

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

// Fills in the drivers that people leave out: files for filenames, what a probe says for the rest.
// Sets `probed` when the top's format was guessed.
io::Task<Result<JsonObject>> complete_options(block::Graph& graph, JsonObject object, bool top,
                                              bool* probed) {
  normalize_sizes(object);
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
       {"file", "backing", "data-file", "header", "image", "raw", "test", "log"}) {
    JsonValue* child = object.find(name);
    if (child == nullptr || child->as_object() == nullptr) {
      continue;
    }
    Result<JsonObject> completed =
        co_await complete_options(graph, *child->as_object(), false, probed);
    if (!completed) {
      co_return completed;
    }
    put(object, name, JsonValue(std::move(*completed)));
  }
  if (object.find("driver") != nullptr) {
    co_return co_await complete_encryption(graph, std::move(object));
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
  co_return co_await complete_encryption(graph, std::move(object));
}

// Formats need a file. (Protocols bring their own; a quorum has children instead.)
Result<void> require_file(const block::Graph& graph, const JsonObject& object) {
  const std::string* driver = text_of(object, "driver");
  const block::DriverInfo* info = driver != nullptr ? graph.drivers().find(*driver) : nullptr;
  if (driver != nullptr && info == nullptr) {
    return fail(ENOENT, "Unknown driver '{}'", *driver);
  }
  if (auto there = require_children(object); !there) {
    return there;
  }
  if (info != nullptr && info->kind != block::DriverInfo::Kind::kProtocol &&
      object.find("file") == nullptr && object.find("children") == nullptr) {
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

// "file.filename" means "filename" within "file", also in JSON.
void add_unfolded(JsonObject& out, std::string_view name, const JsonValue& value) {
  if (const size_t dot = name.find('.'); dot != name.npos) {
    const std::string_view first = name.substr(0, dot);
    if (out.find(first) == nullptr) {
      out.add(std::string(first), JsonObject());
    }
    if (JsonObject* inner = out.find(first)->as_object()) {
      add_unfolded(*inner, name.substr(dot + 1), value);
    }
  } else if (const JsonObject* object = value.as_object()) {
    JsonObject inner;
    for (const auto& [key, member] : *object) {
      add_unfolded(inner, key, member);
    }
    put(out, name, JsonValue(std::move(inner)));
  } else {
    put(out, name, value);
  }
}

// Objects whose members are numbered are lists.
JsonValue with_lists(const JsonValue& value) {
  const JsonObject* object = value.as_object();
  if (object == nullptr) {
    return value;
  }
  JsonObject members;
  schema::JsonArray list;
  for (const auto& [name, member] : *object) {
    members.add(name, with_lists(member));
  }
  while (const JsonValue* element = members.find(std::to_string(list.size()))) {
    list.push_back(*element);
  }
  return list.empty() || list.size() != members.size() ? JsonValue(std::move(members))
                                                       : JsonValue(std::move(list));
}

// "json:{…}" as a list of options.
Result<JsonObject> parse_json_name(std::string_view name) {
  const Result<JsonValue> value = schema::parse_json(name.substr(name.find(':') + 1));
  if (!value) {
    return fail(EINVAL, "Could not parse the JSON options: {}", value.error().message());
  }
  if (value->as_object() == nullptr) {
    return fail(EINVAL, "Invalid JSON object given");
  }
  JsonObject options;
  for (const auto& [key, member] : *value->as_object()) {
    add_unfolded(options, key, member);
  }
  const JsonValue listed = with_lists(options);
  return listed.as_object() != nullptr ? *listed.as_object() : options;
}

Result<JsonObject> parse_option_string(std::string_view text) {
  Result<JsonValue> parsed = schema::parse_keyval(text, "file");
  if (!parsed) {
    return pass(parsed);
  }
  return std::move(*parsed->as_object());
}

io::Task<Result<std::shared_ptr<block::Node>>> open_by_options(block::Graph& graph,
                                                               JsonObject given,
                                                               block::OpenFlags flags) {
  if (const std::string* reference = text_of(given, "file")) {
    co_return fail(ENODEV, "Cannot find device='{0}' nor node-name='{0}'", *reference);
  }
  if (auto ok = require_file(graph, given); !ok) {
    co_return pass(ok);
  }
  Result<JsonObject> completed = co_await complete_options(graph, given, true, &flags.probed);
  if (!completed) {
    co_return pass(completed);
  }
  if (const JsonValue* backing = completed->find("backing"); flags.no_backing && backing) {
    if (backing->as_object() != nullptr) {
      // Nobody would look at it.
      co_return fail(EINVAL, "Block format '{}' does not support the option 'backing.driver'",
                     *text_of(*completed, "driver"));
    }
    (void)completed->take("backing");
  }
  const Result<schema::BlockdevOptions> options = decode_options(graph, *completed);
  if (!options) {
    co_return std::unexpected(options.error());
  }
  auto node = co_await graph.open(*options, flags);
  if (node) {
    name_node(**node, given, *completed);
  }
  co_return node;
}

void warn_of_guess(const ImageName& name) {
  std::fflush(stdout);
  fmt::print(stderr,
             "WARNING: Image format was not specified for '{}' and probing guessed raw.\n"
             "         Automatically detecting the format is dangerous for raw images, write "
             "operations on block 0 will be restricted.\n"
             "         Specify the 'raw' format explicitly to remove the restrictions.\n",
             name.text);
}

}  // namespace

io::Task<Result<std::shared_ptr<block::Node>>> open_image(block::Graph& graph, ImageName name,
                                                          block::OpenFlags flags) {
  Result<std::shared_ptr<block::Node>> node = nullptr;
  if (name.by_options || (block::is_json_filename(name.text) && name.format.empty())) {
    Result<JsonObject> options =
        name.by_options ? parse_option_string(name.text) : parse_json_name(name.text);
    if (!options) {
      co_return pass(options);
    }
    node = co_await open_by_options(graph, std::move(*options), flags);
  } else {
    node = co_await graph.open_filename(name.text, name.format, flags);
  }
  if (node && !name.by_options && name.format.empty() && !flags.read_only &&
      (*node)->info().name == "raw" && !block::is_json_filename(name.text)) {
    warn_of_guess(name);
  }
  co_return node;
}

Error could_not_open(const ImageName& name, Error error) {
  return std::move(error).prefix(fmt::format("Could not open '{}': ", name.text));
}

block::Permissions root_permissions(const block::Node& node) {
  block::Permissions permissions{
      .used = PermissionSet::kConsistentRead,
      .shared = PermissionSet::kConsistentRead | PermissionSet::kWriteUnchanged};
  if (node.options().force_share) {
    permissions.shared = PermissionSet::all();
  }
  if (!node.read_only()) {
    permissions.used |= PermissionSet::kWrite;
  }
  return permissions;
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_root(block::Graph& graph, ImageName name,
                                                         block::OpenFlags flags, Sharing sharing) {
  Result<std::shared_ptr<block::Node>> node = co_await open_image(graph, name, flags);
  if (!node) {
    co_return std::unexpected(could_not_open(name, std::move(node.error())));
  }
  block::Permissions permissions = root_permissions(**node);
  if (sharing == Sharing::kAll) {
    permissions.shared = PermissionSet::all();
  }
  auto edge = graph.attach(*node, "", permissions);
  if (!edge) {
    Result<void> released = co_await graph.release(std::move(*node));
    co_return std::unexpected(could_not_open(name, std::move(edge.error())));
  }
  co_return std::move(*edge);
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_unfiltered(block::Graph& graph, ImageName name,
                                                               block::OpenFlags flags) {
  Result<std::shared_ptr<block::Node>> top = co_await open_image(graph, name, flags);
  if (!top) {
    co_return std::unexpected(could_not_open(name, std::move(top.error())));
  }
  std::shared_ptr<block::Node> node = *top;
  while (node->info().kind == block::DriverInfo::Kind::kFilter && node->backing() != nullptr) {
    node = node->backing()->shared_node();
  }
  auto edge = graph.attach(node, "", root_permissions(*node));
  // The filters go; so does the image, when nobody could be attached to it.
  Result<void> released = co_await graph.release(std::move(*top));
  if (!edge) {
    co_return std::unexpected(could_not_open(name, std::move(edge.error())));
  }
  co_return std::move(*edge);
}

}  // namespace cairn::tools
