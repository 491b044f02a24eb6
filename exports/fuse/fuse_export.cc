#include "exports/fuse/fuse_export.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "io/call_on.h"
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
                       bool growable)
    : Export("fuse", std::move(settings), std::move(root)),
      kind_(kind),
      device_(mount->device()),
      mount_(std::move(mount)),
      file_(this->root(), {.writable = writable(),
                           .growable = growable,
                           .writethrough = writethrough(),
                           .allow_other = mount_->allows_other()}),
      home_(access()),
      session_(mount_->descriptor(), file_, home_) {
  kind_.mounted_.push_back(this);
  serving_.spawn(serve());
}

FuseExport::~FuseExport() { std::erase(kind_.mounted_, this); }

io::Task<void> FuseExport::serve() {
  auto serving = io::call_on(
      reactor(), [this](io::CancelToken token) { return session_.run(token); }, stopping_.token());
  co_await serving;
}

io::Task<void> FuseExport::close() {
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
  co_return std::make_unique<FuseExport>(*this, settings, std::move(root), std::move(*mount),
                                         growable);
}

}  // namespace cairn::fuse
