// cairn-img rebase
//
// The safe mode compares, where the image leaves the answer to its backing file, what the old and
// the new backing file hold, and copies what differs into the image before it changes the name.
#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "block/driver_table.h"
#include "block/filename.h"
#include "io/buffer.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kRebasePiece = 2 << 20;

struct RebaseRequest : ImageRequest {
  std::string backing;  // empty: none
  bool backing_given = false;
  std::optional<std::string> backing_format;
  bool unsafe_mode = false;
  bool compress = false;
  ProgressLine* progress_line = nullptr;  // while it runs
};

// What an image without the other one would read as, for a backing file that may be shorter, or
// not there.
class Backing {
 public:
  explicit Backing(block::Edge* edge) : edge_(edge) {}

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, std::span<std::byte> out) const {
    const uint64_t end = edge_ == nullptr ? 0 : edge_->length();
    const uint64_t there = offset >= end ? 0 : std::min<uint64_t>(out.size(), end - offset);
    std::ranges::fill(out.subspan(there), std::byte{0});
    if (there == 0) {
      co_return Result<void>{};
    }
    co_return co_await edge_->read(offset, out.data(), there);
  }

  // In `length`: for how many bytes the answer holds.
  [[nodiscard]] io::Task<Result<bool>> reads_zero(uint64_t offset, uint64_t& length) const {
    const uint64_t end = edge_ == nullptr ? 0 : edge_->length();
    if (offset >= end) {
      co_return true;
    }
    const Result<block::ChainStatus> status =
        co_await edge_->chain_status(offset, std::min(length, end - offset));
    if (!status) {
      co_return std::unexpected(status.error());
    }
    length = std::min(length, status->status.length);
    co_return status->status.zero;
  }

 private:
  block::Edge* edge_;
};

class Rebase {
 public:
  Rebase(block::Edge& image, block::Edge* old_backing, block::Edge* new_backing,
         const RebaseRequest& request, ProgressLine& progress)
      : image_(image),
        old_(old_backing),
        new_(new_backing),
        cluster_(std::max<uint64_t>(image.node().driver().cluster_size(), 512)),
        unit_(std::max<uint64_t>(cluster_, 65536)),
        compress_(request.compress),
        progress_(progress) {}

  // Copies what the image would lose.
  [[nodiscard]] io::Task<Result<void>> run() {
    const uint64_t end = image_.length();
    Result<void> result;
    for (uint64_t offset = 0; result && offset < end;) {
      progress_.update(offset, end);
      uint64_t length = std::min(std::max(kRebasePiece, unit_), end - offset);
      const block::Node* behind =
          image_.node().backing() == nullptr ? nullptr : &image_.node().backing()->node();
      const Result<block::ChainStatus> own = co_await image_.chain_status(offset, length, behind);
      if (!own) {
        result = std::unexpected(own.error());
        break;
      }
      // A backing file may end within a cluster, of which all is allocated or nothing.
      length = std::min(align_up(offset + own->status.length, cluster_), end) - offset;
      if (!own->status.allocated) {
        result = co_await compare(offset, length);
      }
      offset += length;
    }
    if (result) {
      progress_.update(end, end);
    }
    co_return result;
  }

 private:
  // A range that the image leaves to its backing file. In `length`: how far it came.
  [[nodiscard]] io::Task<Result<void>> compare(uint64_t offset, uint64_t& length) {
    uint64_t same = length;
    const Result<bool> old_zero = co_await old_.reads_zero(offset, same);
    if (!old_zero) {
      co_return std::unexpected(old_zero.error());
    }
    const Result<bool> new_zero = co_await new_.reads_zero(offset, same);
    if (!new_zero) {
      co_return std::unexpected(new_zero.error());
    }
    same = offset + same == image_.length() ? same : align_down(same, cluster_);
    if (*old_zero && *new_zero && same != 0) {
      length = same;
      co_return Result<void>{};
    }
    auto before = io::AlignedBuffer::allocate(length);
    auto after = io::AlignedBuffer::allocate(length);
    if (!before || !after) {
      co_return std::unexpected(before ? after.error() : before.error());
    }
    Result<void> result = co_await old_.read(offset, before->span().first(length));
    if (!result) {
      co_return pass(result, fmt::format("error while reading from old backing file: "));
    }
    result = co_await new_.read(offset, after->span().first(length));
    if (!result) {
      co_return pass(result, fmt::format("error while reading from new backing file: "));
    }
    co_return co_await write_differences(offset, before->span().first(length),
                                         after->span().first(length));
  }

  // Whole units of what the old backing file holds: all of a unit is the image's own afterwards.
  [[nodiscard]] io::Task<Result<void>> write_differences(uint64_t offset,
                                                         std::span<std::byte> before,
                                                         std::span<std::byte> after) {
    const auto differs = [&](uint64_t at, uint64_t end) {
      return !std::equal(before.begin() + static_cast<std::ptrdiff_t>(at),
                         before.begin() + static_cast<std::ptrdiff_t>(end),
                         after.begin() + static_cast<std::ptrdiff_t>(at));
    };
    const auto unit_end = [&](uint64_t at) {
      return std::min<uint64_t>(align_down(offset + at, unit_) + unit_ - offset, before.size());
    };
    for (uint64_t at = 0; at < before.size();) {
      uint64_t end = unit_end(at);
      if (!differs(at, end)) {
        at = end;
        continue;
      }
      while (end < before.size() && differs(end, unit_end(end))) {
        end = unit_end(end);
      }
      Result<void> written = co_await image_.write(offset + at, before.data() + at, end - at,
                                                   block::WriteFlags{.compressed = compress_});
      if (!written) {
        co_return pass(written, "Error while writing to COW image: ");
      }
      at = end;
    }
    co_return Result<void>{};
  }

  block::Edge& image_;
  Backing old_;
  Backing new_;
  uint64_t cluster_;
  uint64_t unit_;  // of what is compared at once
  bool compress_;
  ProgressLine& progress_;
};

io::Task<Result<std::unique_ptr<block::Edge>>> open_new_backing(block::Graph& graph,
                                                                const RebaseRequest& request) {
  if (request.backing.empty()) {
    co_return std::unique_ptr<block::Edge>();
  }
  ImageName name;
  // As the image will see it.
  name.text = request.image.by_options
                  ? request.backing
                  : block::resolve_relative(request.image.text, request.backing);
  name.format = request.backing_format.value_or("");
  const block::OpenFlags flags{.read_only = true,
                               .force_share = request.flags.force_share,
                               .cache_direct = request.source_cache.direct,
                               .no_flush = request.source_cache.no_flush};
  const auto in_words = [&request](auto& failed) {
    return pass(failed, fmt::format("Could not open new backing file '{}': ", request.backing));
  };
  auto node = co_await open_image(graph, name, flags);
  if (!node) {
    co_return in_words(node);
  }
  auto edge = graph.attach(*node, "rebase", root_permissions(**node));
  if (!edge) {
    const Result<void> released = co_await graph.release(std::move(*node));
    static_cast<void>(released);
    co_return in_words(edge);
  }
  co_return edge;
}

io::Task<Result<void>> copy_differences(block::Graph& graph, block::Edge& image,
                                        const RebaseRequest& request) {
  auto new_backing = co_await open_new_backing(graph, request);
  if (!new_backing) {
    co_return pass(new_backing);
  }
  // The old one is read through an edge of our own; the image's is for the image.
  std::unique_ptr<block::Edge> old_backing;
  Result<void> result;
  if (block::Edge* backing = image.node().backing(); backing != nullptr) {
    block::Permissions permissions{.used = block::PermissionSet::kConsistentRead,
                                   .shared = block::PermissionSet::all()};
    auto edge = graph.attach(backing->shared_node(), "rebase", permissions);
    if (edge) {
      old_backing = std::move(*edge);
    } else {
      result = pass(edge);
    }
  }
  if (result) {
    Rebase rebase(image, old_backing.get(), new_backing->get(), request, *request.progress_line);
    result = co_await rebase.run();
  }
  for (std::unique_ptr<block::Edge>* edge : {&old_backing, &*new_backing}) {
    if (*edge != nullptr) {
      Result<void> closed = co_await graph.detach(std::move(*edge));
      result = result ? std::move(closed) : std::move(result);
    }
  }
  co_return result;
}

io::Task<Result<void>> rebase_image(block::Graph& graph, block::Edge& image,
                                    const RebaseRequest& request) {
  if (request.backing_format && graph.drivers().find(*request.backing_format) == nullptr) {
    co_return fail(EINVAL, "Invalid format name: '{}'", *request.backing_format);
  }
  if (!request.unsafe_mode) {
    Result<void> copied = co_await copy_differences(graph, image, request);
    if (!copied) {
      co_return copied;
    }
  }
  request.progress_line->update(1, 1);
  if (!request.backing.empty() && !request.backing_format) {
    co_return fail(EINVAL,
                   "Could not change the backing file to '{}': backing format must be specified",
                   request.backing);
  }
  std::string format = request.backing_format.value_or("");
  Result<void> changed = co_await image.change_backing(request.backing, format);
  if (!changed) {
    if (changed.error().code() == ENOSPC) {
      co_return fail(ENOSPC,
                     "Could not change the backing file to '{}': No space left in the file header",
                     request.backing);
    }
    co_return pass(changed,
                   fmt::format("Could not change the backing file to '{}': ", request.backing));
  }
  co_return Result<void>{};
}

io::Task<int> run(block::Graph& graph, const RebaseRequest& request) {
  const block::OpenFlags flags{.no_backing = request.unsafe_mode,
                               .cache_direct = request.cache.direct,
                               .no_flush = request.cache.no_flush};
  return act_on_image(graph, request, flags, rebase_image, true);
}

// The exit code when there is nothing more to do.
std::optional<int> take_rebase_option(const ParsedOption& option, RebaseRequest& request) {
  if (take_image_option(option, request) == OptionUse::kTaken) {
    return std::nullopt;
  }
  switch (option.id) {
    case 'b':
      request.backing = option.value;
      request.backing_given = true;
      break;
    case 'F':
    case 'B':
      request.backing_format = option.value;
      break;
    case 'u':
      request.unsafe_mode = true;
      break;
    case 'c':
      request.compress = true;
      break;
    case 't':
      request.cache_text = option.value;
      break;
    case 'T':
      request.source_cache_text = option.value;
      break;
    default:
      break;
  }
  return std::nullopt;
}

}  // namespace

int img_rebase(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kProgressOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kImageOptsOption,
                                 OptionSpec{'b', "backing", true},
                                 OptionSpec{'B', "backing-format", true},
                                 OptionSpec{'F', nullptr, true},
                                 OptionSpec{'u', "backing-unsafe", false},
                                 OptionSpec{'c', "compress", false},
                                 OptionSpec{'t', "cache", true},
                                 OptionSpec{'T', "source-cache", true}};
  RebaseRequest request;
  ImgCommandLine line("rebase", arguments, kSpecs);
  while (const auto option = line.next()) {
    if (const auto code = take_rebase_option(*option, request)) {
      return *code;
    }
  }
  if (line.exit_code()) {
    return *line.exit_code();
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    return line.misuse("Expecting one image file name");
  }
  if (!request.unsafe_mode && !request.backing_given) {
    return line.misuse("Must specify backing file (-b) or use unsafe mode (-u)");
  }
  request.image.text = operands.front();
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  request.progress_line = &progress;
  progress.announce();
  const std::optional<int> refused = settle_values(request);
  const int code = refused ? *refused : run_in_session(run, request);
  progress.finish();
  return code;
}

}  // namespace cairn::tools
