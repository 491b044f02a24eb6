#include "exports/fuse/fuse_export.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "exports/fuse/notices.h"
#include "io/call_on.h"
#include "io/reactor_thread.h"
#include "schema/types_block_export.h"

namespace cairn::fuse {
namespace {

AllowOther allow_other(const schema::BlockExportOptionsFuse& options) {
  switch (options.allow_other.value_or(schema::FuseExportAllowOther::kAuto)) {
    case schema::FuseExportAllowOther::kOff:
      return AllowOther::kOff;
    case schema::FuseExportAllowOther::kOn:
      return AllowOther::kOn;
    case schema::FuseExportAllowOther::kAuto:
      break;
  }
  return AllowOther::kAuto;
}

}  // namespace

FuseExport::FuseExport(FuseExports& kind, exports::ExportSettings settings,
                       std::unique_ptr<block::Edge> root, std::unique_ptr<Mount> mount,
                       Options options)
    : Export("fuse", std::move(settings), std::move(root)),
      kind_(kind),
      device_(mount->device()),
      mount_(std::move(mount)),
      file_(this->root(), {.writable = writable(),
                           .growable = options.growable,
                           .writethrough = writethrough(),
                           .allow_other = mount_->allows_other()}),
      home_(access()),
      requests_(file_, home_, options.direct_io ? Caching::kNone : Caching::kPageCache),
      session_(mount_->descriptor(), requests_, [this] { return make_queues(); }),
      graph_(node().graph()),
      told_length_(this->root().length()) {
  kind_.mounted_.push_back(this);
  graph_.add_length_listener(*this);
  serving_.spawn(serve());
}

FuseExport::~FuseExport() {
  graph_.remove_length_listener(*this);
  std::erase(kind_.mounted_, this);
}

io::Task<void> FuseExport::serve() {
  auto serving = io::call_on(
      reactor(), [this](io::CancelToken token) { return session_.run(token); }, stopping_.token());
  co_await serving;
}

void FuseExport::on_length_change() {
  const uint64_t length = root().length();
  if (length != std::exchange(told_length_, length) && !file_.resizing()) {
    forget_attributes(mount_->descriptor());
  }
}

Result<std::unique_ptr<RequestQueues>> FuseExport::make_queues() {
  if (reactor().backend_name() != "io_uring") {
    return fail(ENOTSUP, "io_uring is not to be used");
  }
  return RequestQueues::create(count_queues(), requests_, [this](unsigned entries) {
    return io::make_command_ring(mount_->descriptor(), entries);
  });
}

// While requests are answered still: the kernel writes out what was changed in memory that the file
// is mapped to, and waits for that. A thread of a pool would not do, since answers may need it.
io::Task<void> FuseExport::have_content_forgotten() {
  auto thread = io::ReactorThread::start("cairn-forget", io::BackendKind::kEpoll, {});
  if (!thread) {
    co_return;
  }
  auto forgetting = io::call_on((*thread)->reactor(), [this] { return forget_here(); });
  co_await forgetting;
}

io::Task<void> FuseExport::forget_here() const {
  forget_content(mount_->descriptor());
  co_return;
}

io::Task<void> FuseExport::close() {
  graph_.remove_length_listener(*this);
  co_await have_content_forgotten();
  stopping_.cancel();
  co_await serving_.join();
  mount_.reset();
}

io::Task<Result<std::unique_ptr<exports::Export>>> FuseExports::create(
    const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
    std::unique_ptr<block::Edge>& root) {
  const auto& own = std::get<schema::BlockExportOptionsFuse>(options.branch);
  const bool growable = own.growable.value_or(false) && settings.writable;
  const Result<PathStatus> there = look_at(own.mountpoint);
  if (!there) {
    co_return std::unexpected(there.error());
  }
  if (std::ranges::find(mounted_, there->device, &FuseExport::device) != mounted_.end()) {
    co_return fail(EEXIST, "There already is a FUSE export on '{}'", own.mountpoint);
  }
  if (growable) {
    block::Permissions permissions = root->permissions();
    permissions.used |= block::PermissionSet::kResize;
    if (auto allowed = root->node().graph().set_permissions(*root, permissions); !allowed) {
      co_return pass(allowed);
    }
  }
  auto mount = Mount::create(own.mountpoint, allow_other(own));
  if (!mount) {
    co_return pass(mount);
  }
  const FuseExport::Options made{.growable = growable, .direct_io = own.direct_io.value_or(false)};
  co_return std::make_unique<FuseExport>(*this, settings, std::move(root), std::move(*mount), made);
}

}  // namespace cairn::fuse
