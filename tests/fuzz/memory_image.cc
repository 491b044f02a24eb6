// The protocol behind MemoryImage.
#include "tests/fuzz/memory_image.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "block/driver.h"

namespace cairn::testing {

namespace {

constexpr uint64_t kMaxLength = 8u << 20;

// What the next open finds; targets run one image at a time.
std::span<const std::byte> next_content;

class MemoryFile final : public block::RequestDriver {
 public:
  explicit MemoryFile(std::span<const std::byte> content)
      : bytes_(content.begin(), content.end()) {}

  [[nodiscard]] uint64_t length() const override { return bytes_.size(); }

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    const uint64_t present =
        offset < bytes_.size() ? std::min<uint64_t>(data.size(), bytes_.size() - offset) : 0;
    data.fill(std::byte{0}, present, data.size() - present);
    if (present > 0) {
      data.copy_from(0, std::span(bytes_).subspan(offset, present));
    }
    co_return Result<void>{};
  }

  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags /*flags*/) override {
    if (auto grown = grow(offset + data.size()); !grown) {
      co_return grown;
    }
    data.copy_to(0, std::span(bytes_).subspan(offset, data.size()));
    co_return Result<void>{};
  }

  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags /*flags*/) override {
    if (auto grown = grow(offset + length); !grown) {
      co_return grown;
    }
    std::fill_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
    co_return Result<void>{};
  }

  [[nodiscard]] io::Task<Result<void>> flush() override { co_return Result<void>{}; }

  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions /*options*/) override {
    if (length > kMaxLength) {
      co_return fail_errno(ENOSPC, "The image in memory is full");
    }
    bytes_.resize(length);
    co_return Result<void>{};
  }

 private:
  [[nodiscard]] Result<void> grow(uint64_t end) {
    if (end > kMaxLength) {
      return fail_errno(ENOSPC, "The image in memory is full");
    }
    bytes_.resize(std::max<uint64_t>(bytes_.size(), end));
    return {};
  }

  std::vector<std::byte> bytes_;
};

io::Task<Result<std::unique_ptr<block::Driver>>> open_memory(
    block::OpenContext& /*context*/, const schema::BlockdevOptions& /*options*/) {
  co_return std::make_unique<MemoryFile>(next_content);
}

const block::DriverInfo kMemoryDriver = {
    .name = "file",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open_memory,
};

}  // namespace

MemoryImage::MemoryImage(std::span<const std::byte> content, const block::DriverInfo& format)
    : format_(format), graph_(drivers_) {
  next_content = content;
  drivers_.add(kMemoryDriver);
  drivers_.add(format);
  // Nothing that an image names is there to be opened.
  graph_.set_open_policy({.follow_names = false});
}

MemoryImage::~MemoryImage() {
  // Errors are what fuzzing is about; a close must come to an end, no more.
  if (edge_) {
    static_cast<void>(run(graph_.detach(std::move(edge_))));
  }
  static_cast<void>(run(graph_.close_all()));
}

io::Reactor& MemoryImage::reactor() {
  static const std::unique_ptr<io::Reactor> reactor = [] {
    auto made = io::Reactor::create(io::BackendKind::kEpoll);
    if (!made) {
      std::abort();
    }
    return std::move(*made);
  }();
  return *reactor;
}

block::Edge* MemoryImage::open(block::OpenFlags flags, block::Permissions permissions) {
  auto node = run(graph_.open_filename("memory", std::string(format_.name), flags));
  if (!node) {
    return nullptr;
  }
  auto edge = graph_.attach(*node, "fuzz", permissions);
  if (!edge) {
    static_cast<void>(run(graph_.release(std::move(*node))));
    return nullptr;
  }
  edge_ = std::move(*edge);
  return edge_.get();
}

}  // namespace cairn::testing
