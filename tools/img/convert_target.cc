// cairn-img convert: making and opening the target.
#include <cerrno>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "block/create_file.h"
#include "block/filename.h"
#include "schema/json.h"
#include "schema/types_block_options.h"
#include "schema/visit_block_options.h"
#include "tools/common/create.h"
#include "tools/common/host_cache.h"
#include "tools/common/repair.h"
#include "tools/img/convert_steps.h"
#include "tools/img/past_cache.h"

namespace cairn::tools {
namespace {

using block::Edge;

// Features of the target's format that were asked for.
Result<void> check_target_format(const ConvertRequest& request, std::string_view format) {
  if (request.compress && format != "qcow2" && format != "vmdk") {
    return fail(ENOTSUP, "Compression not supported for this file format");
  }
  return {};
}

// The same of the image that there is now.
Result<void> check_target(const ConvertRequest& request, const block::Node& node) {
  if (!request.create) {
    if (auto possible = check_target_format(request, node.info().name); !possible) {
      return possible;
    }
  }
  if (request.compress && node.driver().encrypted()) {
    return fail(EINVAL, "Compression and encryption not supported at the same time");
  }
  if (request.compress && node.driver().cluster_size() == 0) {
    return fail(EINVAL, "invalid cluster size");
  }
  if (request.compress && node.child("data-file") != nullptr) {
    return fail(ENOTSUP, "Compression not supported for images with an external data file");
  }
  return {};
}

// What is wrong with how the target is to be opened.
Result<void> check_target_name(const ConvertRequest& request) {
  if (request.wrong_target_cache) {
    return fail(EINVAL, "Invalid cache option: {}", *request.wrong_target_cache);
  }
  if (request.target.by_options && request.target_format_given) {
    return fail(EINVAL, "--image-opts and --format are mutually exclusive");
  }
  return {};
}

Result<void> fill_options(const ConvertRequest& request, const CreationTable& table,
                          uint64_t length, block::CreateOptions& options) {
  if (auto parsed = parse_option_list(request.options, options); !parsed) {
    return parsed;
  }
  if ((request.backing && !table.has("backing_file"))) {
    return fail(EINVAL, "Backing file not supported for file format '{}'", request.target.format);
  }
  if (request.backing_format && !table.has("backing_fmt")) {
    return fail(EINVAL, "Backing file format not supported for file format '{}'",
                request.target.format);
  }
  if (request.backing) {
    if (auto set = options.set("backing_file", *request.backing); !set) {
      return set;
    }
  }
  if (request.backing_format) {
    if (auto set = options.set("backing_fmt", *request.backing_format); !set) {
      return set;
    }
  }
  if (options.has("backing_file") && request.sources.size() > 1) {
    return fail(EINVAL,
                "Having a backing file for the target makes no sense when concatenating multiple "
                "input images");
  }
  if (options.has("backing_file") && !options.has("backing_fmt")) {
    return fail(EINVAL, "Use of backing file requires explicit backing format");
  }
  return options.set("size", std::to_string(length));
}

// How the new image is opened. One that is encrypted needs the secret that it was made with, one
// that has not got its name yet has another, and how hard to compress is nothing that an image
// remembers.
Result<ImageName> name_of_new(const ConvertRequest& request, const block::CreateOptions& options,
                              const NewFile& file) {
  ImageName name = request.target;
  const std::string& path = file.path();
  schema::JsonObject node;
  for (const block::CreateOptionInfo& info : options.table()) {
    if (info.name.ends_with("key-secret") && options.has(info.name)) {
      node.add(std::string(info.name), *options.string(info.name));
    }
  }
  if (request.compression_level != 0) {
    node.add("compression-level", int64_t{request.compression_level});
  }
  const std::string_view protocol = block::creation_protocol(path);
  if (node.empty() && (protocol != "file" || block::protocol_prefix(name.text).empty())) {
    name.text = file.aside() ? path : name.text;
    return name;
  }
  Result<schema::BlockdevOptions> described = block::parse_filename_for(protocol, path);
  if (!described) {
    return pass(described);
  }
  node.add("driver", request.target.format);
  node.add("file", schema::to_json(*described));
  name.text = "json:" + schema::to_text(schema::JsonValue(std::move(node)));
  name.format.clear();
  name.format_given = false;
  return name;
}

// What is written under another name first keeps all in one file and no name of its own in it.
NewFile::Way way_for(const ConvertRequest& request, const block::CreateOptions& options) {
  const std::string& format = request.target.format;
  const std::string_view prefix = block::protocol_prefix(request.target.text);
  const bool alone = (format == "raw" || format == "qcow2" || format == "luks") &&
                     !options.has("data_file") && !options.has("detached-header");
  if (block::creation_protocol(creation_path(request.target.text)) != "file") {
    return NewFile::Way::kElsewhere;
  }
  return alone && (prefix.empty() || prefix == "file") ? NewFile::Way::kAside
                                                       : NewFile::Way::kInPlace;
}

// The file that the target is written to. A conversion that can be resumed leaves a note of what it
// makes.
Result<NewFile> begin_target(const ConvertRequest& request, const block::CreateOptions& options,
                             uint64_t length) {
  const std::string path = creation_path(request.target.text);
  const NewFile::Way way = way_for(request, options);
  if (!request.resume) {
    return NewFile::begin(path, way);
  }
  if (way != NewFile::Way::kAside) {
    return fail(ENOTSUP, "--resume is for raw, qcow2 and luks images in a file of their own");
  }
  return NewFile::begin_or_resume(
      path,
      fmt::format("-O {} -o '{}', {} bytes\n", request.target.format, request.options, length));
}

// What of the request can not be had together.
Result<void> check_combination(const ConvertRequest& request, const block::CreateOptions& options,
                               block::Node& source) {
  const bool encrypted =
      options.has("encrypt.format") || options.boolean("encryption").value_or(false);
  if (request.compress && encrypted) {
    return fail(EINVAL, "Compression and encryption not supported at the same time");
  }
  if (request.compress && options.string("preallocation").value_or("off") != "off") {
    return fail(EINVAL, "Compression and preallocation not supported at the same time");
  }
  return request.bitmaps ? check_source_bitmaps(request, source) : Result<void>();
}

}  // namespace

io::Task<Result<void>> create_target(block::Graph& graph, const ConvertRequest& request,
                                     Conversion& conversion) {
  const std::string& filename = request.target.text;
  const Result<CreationTable> table =
      CreationTable::find(graph.drivers(), request.target.format, filename);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  block::CreateOptions options(table->options());
  if (auto filled = fill_options(request, *table, conversion.length, options); !filled) {
    co_return filled;
  }
  if (auto possible = check_target_format(request, request.target.format); !possible) {
    co_return possible;
  }
  if (auto possible = check_combination(request, options, conversion.sources.front()->node());
      !possible) {
    co_return possible;
  }
  Result<NewFile> file = begin_target(request, options, conversion.length);
  if (file) {
    if (const auto data_file = options.string("data_file")) {
      file->add(*data_file);
    }
    conversion.file = std::move(*file);
    if (conversion.file.fresh()) {
      conversion.file.created();  // whatever comes of it
    }
  }
  Result<void> created;
  if (file && conversion.file.resumed()) {
    created = conversion.file.keep_incomplete();
  } else if (file) {
    created = co_await table->format().create(graph, conversion.file.path(), options);
  } else {
    created = pass(file);
  }
  if (!created) {
    co_return std::unexpected(
        creation_failure(*table, creation_path(filename), std::move(created.error()))
            .prefix(
                fmt::format("{}: error while converting {}: ", filename, request.target.format)));
  }
  conversion.file.created();
  Result<ImageName> name = name_of_new(request, options, conversion.file);
  if (!name) {
    co_return pass(name);
  }
  conversion.target_name = std::move(*name);
  conversion.created = !conversion.file.resumed();
  if (request.resume && !conversion.file.kept()) {
    co_return conversion.file.keep_incomplete();
  }
  co_return Result<void>();
}

namespace {

// The node at the bottom, which holds the data.
const block::Node& leaf_of(const block::Node& node) {
  const block::Edge* file = node.child("file");
  return file == nullptr ? node : leaf_of(file->node());
}

}  // namespace

io::Task<Result<void>> open_target(block::Graph& graph, const ConvertRequest& request,
                                   Conversion& conversion) {
  if (auto possible = check_target_name(request); !possible) {
    co_return possible;
  }
  const block::OpenFlags flags{.discard_unmap = true,
                               .cache_direct = request.target_cache.direct,
                               .no_flush = request.target_cache.no_flush};
  if (conversion.file.resumed()) {
    const Result<void> in_order = co_await repair_leaks(graph, conversion.name(request), flags);
    if (!in_order) {
      co_return fail(in_order.error().code(), "What there is of '{}' can not be gone on with: {}",
                     request.target.text, in_order.error().message());
    }
  }
  const bool past_cache = !request.target_cache_given && avoids_cache(request);
  auto opening = open_for_copy(graph, conversion.name(request), flags, past_cache);
  Result<std::unique_ptr<Edge>> target = co_await std::move(opening);
  if (!target) {
    co_return pass(target);
  }
  conversion.target = std::move(*target);
  const block::Node& node = conversion.target->node();
  if (conversion.created && conversion.file.fresh()) {
    for (std::string& path : host_files(node, false)) {
      conversion.file.add_written(std::move(path));
    }
  }
  // Devices hold what they held; what lies in new space is decrypted to noise.
  conversion.created =
      conversion.created && leaf_of(node).info().name == "file" && !node.driver().encrypted();
  if (auto possible = check_target(request, node); !possible) {
    co_return possible;
  }
  if (request.bitmaps) {
    if (auto possible = check_target_bitmaps(conversion.target->node()); !possible) {
      // The new image stays, empty: scripts of the field know it so.
      conversion.keep = true;
      co_return possible;
    }
  }
  if (conversion.target->length() < conversion.length) {
    co_return fail(EINVAL, "output file is smaller than input file");
  }
  co_return Result<void>();
}

}  // namespace cairn::tools
