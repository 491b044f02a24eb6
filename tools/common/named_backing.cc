#include "tools/common/named_backing.h"

#include <cerrno>
#include <string>
#include <utility>

#include "block/filename.h"
#include "schema/visit_block_options.h"
#include "tools/common/image_options.h"

namespace cairn::tools {
namespace {

using schema::JsonObject;
using schema::JsonValue;

// What an image says of the one below it; no filename: it has none.
struct NamedBacking {
  std::string filename;
  std::string format;
};

io::Task<Result<NamedBacking>> ask_image(block::Graph& graph, JsonObject image) {
  (void)image.take("backing");
  Result<schema::BlockdevOptions> options = decode_options(graph, image);
  if (!options) {
    co_return pass(options);
  }
  const block::OpenFlags flags{
      .read_only = true, .no_backing = true, .no_io = true, .force_share = true};
  auto node = co_await graph.open(*options, flags);
  if (!node) {
    co_return pass(node);
  }
  const block::Edge* file = (*node)->child("file");
  const std::string above = file != nullptr ? file->node().filename() : std::string();
  NamedBacking named{.filename = (*node)->driver().backing_filename(),
                     .format = (*node)->driver().backing_format()};
  Result<void> allowed;
  if (!named.filename.empty()) {
    allowed = graph.open_policy().check_name(above, "backing", named.filename);
    named.filename = block::resolve_relative(above, named.filename);
  }
  Result<void> released = co_await graph.release(std::move(*node));
  if (!allowed || !released) {
    co_return allowed ? pass(released) : pass(allowed);
  }
  co_return named;
}

// What a filename stands for, as options.
Result<JsonObject> options_of_name(const std::string& filename) {
  if (block::is_json_filename(filename)) {
    return parse_json_name(filename);
  }
  Result<schema::BlockdevOptions> options = block::parse_filename(filename);
  if (!options) {
    return pass(options);
  }
  JsonValue object = schema::to_json(*options);
  return std::move(*object.as_object());
}

// Adds what is not there yet, at every depth.
void add_missing(JsonObject& options, const JsonObject& more) {
  for (const auto& [name, value] : more) {
    JsonValue* const there = options.find(name);
    if (there == nullptr) {
      options.add(name, value);
    } else if (there->as_object() != nullptr && value.as_object() != nullptr) {
      add_missing(*there->as_object(), *value.as_object());
    }
  }
}

bool is_host_file(const block::DriverInfo& driver) {
  return driver.name == "file" || driver.name == "host_device";
}

// Whether these options say which file they are about, or need none.
bool says_where(const block::Graph& graph, const JsonObject& options) {
  if (options.find("filename") != nullptr) {
    return true;
  }
  const block::DriverInfo* driver = driver_of(graph, options);
  if (driver != nullptr && driver->kind != block::DriverInfo::Kind::kFormat) {
    return !is_host_file(*driver);
  }
  const JsonValue* file = options.find("file");
  if (file == nullptr) {
    return false;
  }
  return file->as_object() == nullptr || says_where(graph, *file->as_object());
}

// The file of `named` becomes that of the options, which may say more of it.
Result<void> take_name(const block::Graph& graph, const std::string& filename,
                       JsonObject& options) {
  Result<JsonObject> file = options_of_name(filename);
  if (!file) {
    return pass(file, kAboutBacking);
  }
  const block::DriverInfo* below = driver_of(graph, *file);
  const block::DriverInfo* driver = driver_of(graph, options);
  const bool bare = below != nullptr && below->kind == block::DriverInfo::Kind::kProtocol &&
                    (driver == nullptr || !is_host_file(*driver));
  if (bare) {
    JsonObject above;
    above.add("file", JsonValue(std::move(*file)));
    file = std::move(above);
  }
  add_missing(options, *file);
  return {};
}

Result<void> take_over(const block::Graph& graph, const NamedBacking& named, JsonObject& options) {
  const bool elsewhere = says_where(graph, options);
  if (named.filename.empty() && !elsewhere) {
    return fail(EINVAL, "{}{}", kAboutBacking,
                options.find("driver") != nullptr ? "A block device must be specified for \"file\""
                                                  : "Must specify either driver or file");
  }
  if (!elsewhere) {
    if (auto taken = take_name(graph, named.filename, options); !taken) {
      return taken;
    }
  }
  if (options.find("driver") == nullptr && options.find("filename") == nullptr &&
      !named.format.empty()) {
    options.add("driver", named.format);
  }
  return {};
}

}  // namespace

io::Task<Result<JsonObject>> complete_backing(block::Graph& graph, JsonObject image) {
  const block::DriverInfo* driver = driver_of(graph, image);
  const JsonValue* given = image.find("backing");
  if (driver == nullptr || !driver->supports_backing || given == nullptr ||
      given->as_object() == nullptr ||
      (given->as_object()->find("driver") != nullptr && says_where(graph, *given->as_object()))) {
    co_return image;
  }
  Result<NamedBacking> named = co_await ask_image(graph, image);
  if (!named) {
    co_return pass(named);
  }
  JsonObject backing = *given->as_object();
  if (auto taken = take_over(graph, *named, backing); !taken) {
    co_return pass(taken);
  }
  put(image, "backing", JsonValue(std::move(backing)));
  co_return image;
}

}  // namespace cairn::tools
