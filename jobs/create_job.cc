#include "jobs/create_job.h"

#include <cerrno>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "block/create_options.h"
#include "block/driver_table.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kSector = 512;

// Sets options by the names that command lines know them by; the first failure counts.
class OptionSetter {
 public:
  explicit OptionSetter(std::span<const block::CreateOptionInfo> table) : options_(table) {}

  void set(std::string_view name, std::string_view value) {
    if (result_) {
      result_ = options_.set(name, value);
    }
  }
  void set(std::string_view name, const std::optional<std::string>& value) {
    if (value) {
      set(name, std::string_view(*value));
    }
  }
  void set(std::string_view name, const std::optional<bool>& value) {
    if (value) {
      set(name, *value ? std::string_view("on") : std::string_view("off"));
    }
  }
  template <typename Number>
    requires std::is_integral_v<Number>
  void set_number(std::string_view name, const std::optional<Number>& value) {
    if (value) {
      set(name, std::string_view(std::to_string(*value)));
    }
  }
  template <typename Enum>
  void set_name(std::string_view name, const std::optional<Enum>& value) {
    if (value) {
      set(name, schema::to_string(*value));
    }
  }
  // All of them, or the failure.
  [[nodiscard]] Result<block::CreateOptions> take() {
    if (!result_) {
      return pass(result_);
    }
    return std::move(options_);
  }

 private:
  block::CreateOptions options_;
  Result<void> result_;
};

Result<block::CreateOptions> options_for(const block::DriverInfo& driver,
                                         const schema::BlockdevCreateOptionsFile& wanted) {
  if (wanted.preallocation == schema::PreallocMode::kMetadata) {
    return fail(ENOTSUP, "Unsupported preallocation mode: metadata");
  }
  OptionSetter setter(driver.create_options);
  setter.set("size", std::string_view(std::to_string(wanted.size)));
  setter.set_name("preallocation", wanted.preallocation);
  setter.set("nocow", wanted.nocow);
  setter.set_number("extent_size_hint", wanted.extent_size_hint);
  return setter.take();
}

// How the names that the schema has for options of LUKS are those of the command line, with a
// prefix where there is one.
void set_luks_options(OptionSetter& setter, std::string_view prefix,
                      const schema::QCryptoBlockCreateOptionsLUKS& wanted) {
  const auto name = [prefix](std::string_view option) {
    return std::string(prefix).append(option);
  };
  setter.set(name("key-secret"), wanted.key_secret);
  setter.set_name(name("cipher-alg"), wanted.cipher_alg);
  setter.set_name(name("cipher-mode"), wanted.cipher_mode);
  setter.set_name(name("ivgen-alg"), wanted.ivgen_alg);
  setter.set_name(name("ivgen-hash-alg"), wanted.ivgen_hash_alg);
  setter.set_name(name("hash-alg"), wanted.hash_alg);
  setter.set_number(name("iter-time"), wanted.iter_time);
}

Result<block::CreateOptions> options_for(const block::DriverInfo& driver,
                                         const schema::BlockdevCreateOptionsQcow2& wanted) {
  if (wanted.size % kSector != 0) {
    return fail(EINVAL, "Image size must be a multiple of {} bytes", kSector);
  }
  OptionSetter setter(driver.create_options);
  setter.set("size", std::string_view(std::to_string(wanted.size)));
  setter.set_name("compat", wanted.version);
  setter.set("backing_file", wanted.backing_file);
  setter.set_name("backing_fmt", wanted.backing_fmt);
  if (wanted.encrypt) {
    const bool is_luks = wanted.encrypt->format == schema::QCryptoBlockFormat::kLuks;
    setter.set("encrypt.format", std::string_view(is_luks ? "luks" : "aes"));
    if (const auto* luks =
            std::get_if<schema::QCryptoBlockCreateOptionsLUKS>(&wanted.encrypt->branch)) {
      set_luks_options(setter, "encrypt.", *luks);
    } else if (const auto* aes =
                   std::get_if<schema::QCryptoBlockOptionsQCow>(&wanted.encrypt->branch)) {
      setter.set("encrypt.key-secret", aes->key_secret);
    }
  }
  setter.set_number("cluster_size", wanted.cluster_size);
  setter.set_name("preallocation", wanted.preallocation);
  setter.set("lazy_refcounts", wanted.lazy_refcounts);
  setter.set_number("refcount_bits", wanted.refcount_bits);
  setter.set_name("compression_type", wanted.compression_type);
  setter.set("extended_l2", wanted.extended_l2);
  setter.set("data_file_raw", wanted.data_file_raw);
  return setter.take();
}

Result<block::CreateOptions> options_for(const block::DriverInfo& driver,
                                         const schema::BlockdevCreateOptionsVmdk& wanted) {
  if (wanted.size % kSector != 0) {
    return fail(EINVAL, "Image size must be a multiple of {} bytes", kSector);
  }
  OptionSetter setter(driver.create_options);
  setter.set("size", std::string_view(std::to_string(wanted.size)));
  setter.set_name("subformat", wanted.subformat);
  setter.set("backing_file", wanted.backing_file);
  setter.set_name("adapter_type", wanted.adapter_type);
  setter.set("hwversion", wanted.hwversion);
  setter.set("toolsversion", wanted.toolsversion);
  setter.set("zeroed_grain", wanted.zeroed_grain);
  return setter.take();
}

// A node that is there, or a new one, which whoever uses it closes.
io::Task<Result<std::shared_ptr<block::Node>>> find_or_open(block::Graph& graph,
                                                            schema::BlockdevRef reference) {
  if (const auto* name = std::get_if<std::string>(&reference.value)) {
    std::shared_ptr<block::Node> node = graph.find(*name);
    if (node == nullptr) {
      co_return fail(ENODEV, "Cannot find device='{0}' nor node-name='{0}'", *name);
    }
    co_return node;
  }
  const auto& options = *std::get<schema::Box<schema::BlockdevOptions>>(reference.value);
  co_return co_await graph.open(options);
}

// Closes nodes that were opened for the job, unless making the image on them has closed them
// already. Those of others stay.
io::Task<void> release_all(block::Graph& graph, std::vector<std::shared_ptr<block::Node>> nodes) {
  for (auto& node : nodes) {
    if (node != nullptr) {
      const Result<void> released = co_await graph.release(std::move(node));
    }
  }
}

io::Task<Result<void>> create_file(block::Graph& graph, const block::DriverInfo& driver,
                                   schema::BlockdevCreateOptionsFile wanted) {
  Result<block::CreateOptions> options = options_for(driver, wanted);
  if (!options) {
    co_return std::unexpected(options.error());
  }
  options->set_exact(true);
  co_return co_await driver.create(graph, std::move(wanted.filename), *options);
}

io::Task<Result<void>> create_qcow2(block::Graph& graph, const block::DriverInfo& driver,
                                    schema::BlockdevCreateOptionsQcow2 wanted) {
  Result<std::shared_ptr<block::Node>> file = co_await find_or_open(graph, wanted.file);
  if (!file) {
    co_return pass(file);
  }
  std::vector<std::shared_ptr<block::Node>> nodes = {std::move(*file), nullptr};
  Result<void> result;
  const Result<block::CreateOptions> options = options_for(driver, wanted);
  if (!options) {
    result = std::unexpected(options.error());
  } else if (wanted.data_file) {
    auto data = co_await find_or_open(graph, std::move(*wanted.data_file));
    if (data) {
      nodes[1] = std::move(*data);
    } else {
      result = pass(data);
    }
  }
  if (result) {
    result = co_await driver.create_on(graph, nodes[0], nodes[1], *options);
  }
  co_await release_all(graph, std::move(nodes));
  co_return result;
}

io::Task<Result<void>> create_luks(block::Graph& graph, const block::DriverInfo& driver,
                                   schema::BlockdevCreateOptionsLUKS wanted) {
  std::vector<block::CreateOptionInfo> table(driver.create_options.begin(),
                                             driver.create_options.end());
  table.push_back({.name = "preallocation"});
  OptionSetter setter(table);
  setter.set("size", std::string_view(std::to_string(wanted.size)));
  setter.set_name("preallocation", wanted.preallocation);
  setter.set("detached-header", std::optional(wanted.header.has_value()));
  set_luks_options(setter, "", wanted);
  setter.set_name("version", wanted.version);
  setter.set_name("pbkdf", wanted.pbkdf);
  setter.set_number("pbkdf-memory", wanted.pbkdf_memory);
  setter.set_number("pbkdf-threads", wanted.pbkdf_threads);
  setter.set_number("sector-size", wanted.sector_size);
  const Result<block::CreateOptions> options = setter.take();
  if (!options) {
    co_return std::unexpected(options.error());
  }
  if (!wanted.header && !wanted.file) {
    co_return fail(EINVAL, "Either the parameter 'header' or 'file' must be specified");
  }
  std::vector<std::shared_ptr<block::Node>> nodes;
  for (auto* reference : {&wanted.header, &wanted.file}) {
    if (!*reference) {
      continue;
    }
    Result<std::shared_ptr<block::Node>> opened =
        co_await find_or_open(graph, std::move(**reference));
    if (!opened) {
      co_await release_all(graph, std::move(nodes));
      co_return pass(opened);
    }
    nodes.push_back(std::move(*opened));
  }
  nodes.resize(2);
  Result<void> made = co_await driver.create_on(graph, nodes[0], nodes[1], *options);
  co_await release_all(graph, std::move(nodes));
  co_return made;
}

// Whether the disk is kept in files of its own.
bool has_extents(const schema::BlockdevCreateOptionsVmdk& wanted) {
  using enum schema::BlockdevVmdkSubformat;
  const auto subformat = wanted.subformat.value_or(kMonolithicSparse);
  return subformat != kMonolithicSparse && subformat != kStreamOptimized;
}

io::Task<Result<void>> create_vmdk(block::Graph& graph, const block::DriverInfo& driver,
                                   schema::BlockdevCreateOptionsVmdk wanted) {
  const Result<block::CreateOptions> options = options_for(driver, wanted);
  if (!options) {
    co_return std::unexpected(options.error());
  }
  Result<std::shared_ptr<block::Node>> file = co_await find_or_open(graph, wanted.file);
  if (!file) {
    co_return pass(file);
  }
  std::vector<std::shared_ptr<block::Node>> extents;
  Result<void> result;
  if (wanted.extents && has_extents(wanted)) {
    for (schema::BlockdevRef& reference : *wanted.extents) {
      auto opened = co_await find_or_open(graph, std::move(reference));
      if (!opened) {
        result = pass(opened);
        break;
      }
      extents.push_back(std::move(*opened));
    }
  }
  if (result) {
    result = co_await driver.create_on_extents(graph, *file, extents, *options);
  }
  extents.push_back(std::move(*file));
  co_await release_all(graph, std::move(extents));
  co_return result;
}

}  // namespace

Result<void> CreateJob::check_driver(const block::Graph& graph, schema::BlockdevDriver driver) {
  const std::string_view name = schema::to_string(driver);
  const block::DriverInfo* info = graph.drivers().find(name);
  const bool possible =
      info != nullptr &&
      (driver == schema::BlockdevDriver::kFile ||
       ((driver == schema::BlockdevDriver::kQcow2 || driver == schema::BlockdevDriver::kLuks) &&
        info->create_on != nullptr) ||
       info->create_on_extents != nullptr);
  if (!possible) {
    return fail(ENOTSUP, "Driver does not support blockdev-create");
  }
  return {};
}

io::Task<Result<void>> CreateJob::run() {
  set_total(1);
  Result<void> result = co_await create();
  add_done(1);
  co_return result;
}

io::Task<Result<void>> CreateJob::create() {
  const block::DriverInfo& driver = *graph_.drivers().find(schema::to_string(options_.driver));
  if (auto* file = std::get_if<schema::BlockdevCreateOptionsFile>(&options_.branch)) {
    co_return co_await create_file(graph_, driver, std::move(*file));
  }
  if (auto* luks = std::get_if<schema::BlockdevCreateOptionsLUKS>(&options_.branch)) {
    co_return co_await create_luks(graph_, driver, std::move(*luks));
  }
  if (auto* vmdk = std::get_if<schema::BlockdevCreateOptionsVmdk>(&options_.branch)) {
    co_return co_await create_vmdk(graph_, driver, std::move(*vmdk));
  }
  auto& qcow2 = std::get<schema::BlockdevCreateOptionsQcow2>(options_.branch);
  co_return co_await create_qcow2(graph_, driver, std::move(qcow2));
}

}  // namespace cairn::jobs
