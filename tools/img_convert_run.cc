// cairn-img convert: carrying it out.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "jobs/copy.h"
#include "tools/common_create.h"
#include "tools/common_progress.h"
#include "tools/common_report.h"
#include "tools/common_snapshots.h"
#include "tools/img.h"
#include "tools/img_convert.h"

namespace cairn::tools {
namespace {

using block::Edge;
using EdgeList = std::vector<std::unique_ptr<Edge>>;

struct Conversion {
  EdgeList sources;
  std::unique_ptr<Edge> target;
  ImageName target_name;             // how a new one is opened; elsewhere as requested
  uint64_t length = 0;               // of all sources, in bytes
  std::vector<std::string> created;  // the files to remove should the copy fail
  bool created_on_file = false;      // and it reads as zeroes
};

io::Task<Result<void>> open_sources(block::Graph& graph, const ConvertRequest& request,
                                    Conversion& conversion) {
  const block::OpenFlags flags{.read_only = true,
                               .force_share = request.force_share,
                               .cache_direct = request.source_cache.direct,
                               .no_flush = request.source_cache.no_flush};
  for (const ImageName& name : request.sources) {
    Result<std::unique_ptr<Edge>> source = co_await open_root(graph, name, flags);
    if (!source) {
      co_return pass(source);
    }
    conversion.sources.push_back(std::move(*source));
    if (request.snapshot && request.sources.size() == 1) {
      Result<void> shown = co_await show_snapshot(*conversion.sources.back(), *request.snapshot);
      if (!shown) {
        co_return shown;
      }
    }
    conversion.length += conversion.sources.back()->length();
  }
  co_return Result<void>();
}

// What the sources and the target's format do not allow together, or this version can not do.
Result<void> check_request(const ConvertRequest& request, const Conversion& conversion) {
  if (request.snapshot && request.sources.size() > 1) {
    return fail(ENOTSUP, "No support for concatenating multiple snapshot");
  }
  if (request.backing && request.sources.size() > 1) {
    return fail(EINVAL,
                "Having a backing file for the target makes no sense when concatenating multiple "
                "input images");
  }
  if (request.bitmaps) {
    return check_source_bitmaps(request, conversion.sources.front()->node());
  }
  return {};
}

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

Result<void> fill_options(const ConvertRequest& request, const CreationTable& table,
                          uint64_t length, block::CreateOptions& options) {
  if (auto parsed = parse_option_list(request.options, options); !parsed) {
    return parsed;
  }
  if ((request.backing && !table.has("backing_file"))) {
    return fail(EINVAL, "Backing file not supported for file format '{}'", request.target.format);
  }
  if (request.backing_format && !table.has("backing_fmt")) {
    return fail(EINVAL, "Backing format not supported for file format '{}'", request.target.format);
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
  if (options.has("backing_file") && !options.has("backing_fmt")) {
    return fail(EINVAL, "Use of backing file requires explicit backing format");
  }
  return options.set("size", std::to_string(length));
}

// As values of options are written on a command line.
std::string double_commas(std::string_view text) {
  std::string doubled;
  for (const char c : text) {
    doubled.append(c == ',' ? 2 : 1, c);
  }
  return doubled;
}

// A new image that is encrypted is opened with the secret that it was made with.
ImageName name_with_secrets(const ImageName& target, const block::CreateOptions& options) {
  std::string secrets;
  for (const block::CreateOptionInfo& info : options.table()) {
    if (info.name.ends_with("key-secret") && options.has(info.name)) {
      secrets += fmt::format(",{}={}", info.name, double_commas(*options.string(info.name)));
    }
  }
  ImageName name = target;
  if (!secrets.empty()) {
    name.by_options = true;
    name.text = fmt::format("driver={}{},file.driver=file,file.filename={}", target.format, secrets,
                            double_commas(creation_path(target.text)));
    name.format.clear();
  }
  return name;
}

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
  const bool encrypted =
      options.has("encrypt.format") || options.boolean("encryption").value_or(false);
  if (request.compress && encrypted) {
    co_return fail(EINVAL, "Compression and encryption not supported at the same time");
  }
  conversion.target_name = name_with_secrets(request.target, options);
  std::string path = creation_path(filename);
  std::vector<std::string> fresh;
  for (const std::string& file : {path, options.string("data_file").value_or("")}) {
    if (!file.empty() && access(file.c_str(), F_OK) != 0) {
      fresh.push_back(file);
    }
  }
  Result<void> created = co_await table->format().create(graph, path, options);
  if (!created) {
    co_return std::unexpected(creation_failure(*table, std::move(created.error()))
                                  .prefix(fmt::format("{}: error while converting {}: ", filename,
                                                      request.target.format)));
  }
  conversion.created = std::move(fresh);
  conversion.created_on_file = true;
  co_return Result<void>();
}

// The node at the bottom, which holds the data.
const block::Node& leaf_of(const block::Node& node) {
  const block::Edge* file = node.child("file");
  return file == nullptr ? node : leaf_of(file->node());
}

io::Task<Result<void>> open_target(block::Graph& graph, const ConvertRequest& request,
                                   Conversion& conversion) {
  const block::OpenFlags flags{.discard_unmap = true,
                               .cache_direct = request.target_cache.direct,
                               .no_flush = request.target_cache.no_flush};
  const ImageName& target_name =
      conversion.target_name.text.empty() ? request.target : conversion.target_name;
  Result<std::unique_ptr<Edge>> target = co_await open_root(graph, target_name, flags);
  if (!target) {
    co_return pass(target);
  }
  conversion.target = std::move(*target);
  const block::Node& node = conversion.target->node();
  conversion.created_on_file = conversion.created_on_file && leaf_of(node).info().name == "file";
  // What lies in new space is decrypted to noise.
  conversion.created_on_file = conversion.created_on_file && !node.driver().encrypted();
  if (auto possible = check_target(request, node); !possible) {
    co_return possible;
  }
  if (request.bitmaps) {
    if (auto possible = check_target_bitmaps(conversion.target->node()); !possible) {
      // The new image stays, empty: scripts of the field know it so.
      conversion.created.clear();
      co_return possible;
    }
  }
  if (conversion.target->length() < conversion.length) {
    co_return fail(EINVAL, "output file is smaller than input file");
  }
  co_return Result<void>();
}

// Images that store nothing but encoded units take only whole ones.
bool writes_units(const ConvertRequest& request, const block::Node& target) {
  const block::TranslatingDriver* format = target.driver().as_translating();
  return request.compress ||
         (format != nullptr && format->encoding() == block::TranslatingDriver::Encoding::kAlways);
}

io::Task<Result<void>> copy(const ConvertRequest& request, Conversion& conversion) {
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  const Edge* backing = conversion.target->node().backing();
  const bool has_backing = backing != nullptr && request.create;
  jobs::CopyOptions options{
      .target = conversion.target.get(),
      .workers = request.parallel,
      .ordered = !request.any_order,
      .sparse_size = request.sparse_size,
      .target_is_zero = request.target_is_zero || (conversion.created_on_file && !has_backing),
      .target_has_backing = has_backing,
      .backing_length = has_backing ? backing->length() : 0,
      .compressed = writes_units(request, conversion.target->node()),
      .salvage = request.salvage,
      .rate_limit = request.rate_limit,
      .fua = request.target_cache.writethrough};
  for (const auto& source : conversion.sources) {
    options.sources.push_back(source.get());
  }
  options.progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); };
  if (!request.quiet) {
    options.on_unreadable = [](uint64_t offset, const Error& error) {
      report_warning(
          fmt::format("error while reading offset {}: {}", offset, std::strerror(error.code())));
    };
  }
  Result<void> copied = co_await jobs::copy_images(options);
  progress.finish();
  if (copied) {
    copied = co_await conversion.target->flush();
  }
  co_return copied;
}

io::Task<Result<void>> convert(block::Graph& graph, const ConvertRequest& request,
                               Conversion& conversion) {
  Result<void> step = co_await open_sources(graph, request, conversion);
  if (step) {
    step = check_request(request, conversion);
  }
  if (step && request.create) {
    step = co_await create_target(graph, request, conversion);
  }
  if (step) {
    step = co_await open_target(graph, request, conversion);
  }
  if (step) {
    step = co_await copy(request, conversion);
  }
  if (step && request.bitmaps) {
    step = co_await copy_bitmaps(conversion.sources.front()->node(), conversion.target->node());
  }
  co_return step;
}

}  // namespace

io::Task<int> convert_images(block::Graph& graph, const ConvertRequest& request) {
  Conversion conversion;
  Result<void> result = co_await convert(graph, request, conversion);
  if (conversion.target != nullptr) {
    Result<void> closed = co_await graph.detach(std::move(conversion.target));
    result = result ? std::move(closed) : std::move(result);
  }
  for (std::unique_ptr<Edge>& source : conversion.sources) {
    Result<void> closed = co_await graph.detach(std::move(source));
    result = result ? std::move(closed) : std::move(result);
  }
  if (result) {
    co_return 0;
  }
  report_error(result.error());
  for (const std::string& file : conversion.created) {
    if (unlink(file.c_str()) != 0) {
      report_warning(
          fmt::format("Could not remove the incomplete '{}': {}", file, std::strerror(errno)));
    }
  }
  co_return 1;
}

}  // namespace cairn::tools
