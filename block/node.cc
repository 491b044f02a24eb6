#include "block/node.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "base/bytes.h"
#include "block/create_options.h"
#include "block/dirty_bitmap.h"
#include "block/engine.h"
#include "block/graph.h"
#include "block/graph_edit.h"

namespace cairn::block {

Edge::Edge(std::string name, Node* parent, std::shared_ptr<Node> child, ChildRole role,
           std::string user)
    : name_(std::move(name)),
      parent_(parent),
      child_(std::move(child)),
      role_(role),
      user_(std::move(user)) {
  child_->parents_.push_back(this);
}

Edge::~Edge() {
  std::erase(child_->parents_, this);
  for (GraphEdit* edit : child_->graph_.edits_) {
    edit->forget(*this);
  }
}

uint64_t Edge::length() const { return child_->length(); }

std::string Edge::describe() const {
  std::string user = user_.empty() ? "an unnamed block device" : user_;
  if (parent_ != nullptr) {
    user = fmt::format("node '{}'", parent_->name());
  }
  return fmt::format("{} (uses node '{}' as '{}' child)", user, child_->name(), name_);
}

io::Task<Result<void>> Edge::read(uint64_t offset, io::IoVector data) {
  return Engine::read(*this, offset, std::move(data));
}

io::Task<Result<void>> Edge::write(uint64_t offset, io::IoVector data, WriteFlags flags) {
  return Engine::write(*this, offset, std::move(data), flags);
}

io::Task<Result<void>> Edge::write_zeroes(uint64_t offset, uint64_t length, ZeroFlags flags) {
  return Engine::write_zeroes(*this, offset, length, flags);
}

io::Task<Result<void>> Edge::discard(uint64_t offset, uint64_t length) {
  return Engine::discard(*this, offset, length);
}

io::Task<Result<void>> Edge::flush() { return Engine::flush(*this); }

io::Task<Result<void>> Edge::resize(uint64_t length, ResizeOptions options) {
  return Engine::resize(*this, length, options);
}

Result<std::vector<Snapshot>> Edge::snapshots() const { return child_->driver().snapshots(); }

io::Task<Result<void>> Edge::create_snapshot(Snapshot snapshot) {
  return Engine::change_image(
      *this, PermissionSet::kWrite,
      [what = std::move(snapshot)](Driver& d) { return d.create_snapshot(what); });
}

io::Task<Result<void>> Edge::apply_snapshot(std::string id) {
  return Engine::change_image(*this, PermissionSet::kWrite | PermissionSet::kResize,
                              [id = std::move(id)](Driver& d) { return d.apply_snapshot(id); });
}

io::Task<Result<void>> Edge::delete_snapshot(std::string id) {
  return Engine::change_image(*this, PermissionSet::kWrite,
                              [id = std::move(id)](Driver& d) { return d.delete_snapshot(id); });
}

io::Task<Result<void>> Edge::show_snapshot(std::string id) {
  if (!child_->read_only()) {
    co_return fail(EINVAL, "Block node '{}' is writable and can not show a snapshot",
                   child_->name());
  }
  Engine::Change show = [id = std::move(id)](Driver& d) { return d.show_snapshot(id); };
  co_return co_await Engine::change_image(*this, PermissionSet::none(), std::move(show));
}

io::Task<Result<void>> Edge::change_backing(std::string filename, std::string format) {
  Engine::Change change = [name = std::move(filename), format = std::move(format)](Driver& d) {
    return d.change_backing(name, format);
  };
  Result<void> changed =
      co_await Engine::change_image(*this, PermissionSet::kWrite, std::move(change));
  child_->graph_.refresh_names();  // they tell whether the header's backing file is the one in use
  co_return changed;
}

io::Task<Result<void>> Edge::make_empty() {
  return Engine::change_image(*this, PermissionSet::kWrite,
                              [](Driver& d) { return d.make_empty(); });
}

io::Task<Result<void>> Edge::amend(CreateOptions options) {
  return Engine::change_image(
      *this, PermissionSet::kWrite | PermissionSet::kResize,
      [options = std::move(options)](Driver& d) { return d.amend(options); });
}

io::Task<Result<void>> Edge::compact(CompactOptions options) {
  return Engine::change_image(
      *this, PermissionSet::kWrite,
      [options = std::move(options)](Driver& d) { return d.compact(options); });
}

io::Task<Result<void>> Edge::read(uint64_t offset, void* buffer, uint64_t length) {
  return Engine::read(*this, offset, io::IoVector(buffer, length));
}

io::Task<Result<void>> Edge::write(uint64_t offset, const void* buffer, uint64_t length,
                                   WriteFlags flags) {
  // iovec has no const form; a write only reads the memory.
  return Engine::write(*this, offset, io::IoVector(const_cast<void*>(buffer), length), flags);
}

bool Edge::try_read_zeroes(uint64_t offset, uint64_t length) {
  Node& node = *child_;
  const uint64_t end = node.driver_->length();
  if (node.translating_ == nullptr || node.graph_.draining() || !node.active() || offset > end ||
      length > end - offset || length == 0) {
    return false;
  }
  Extent extent;
  if (!node.translating_->try_map(offset, length, extent) || extent.length < length) {
    return false;
  }
  const bool zero = extent.kind == Extent::Kind::kZero ||
                    (extent.kind == Extent::Kind::kHole && node.backing_ == nullptr);
  if (zero) {
    ++node.statistics_.reads.operations;
    node.statistics_.reads.bytes += length;
  }
  return zero;
}

io::Task<Result<BlockStatus>> Edge::status(uint64_t offset, uint64_t length) {
  if (Engine::must_wait(*this)) {
    co_await Engine::admitted(child_->graph_);
  }
  if (auto usable = Engine::check_active(*this); !usable) {
    co_return pass(usable);
  }
  co_return co_await Engine::status(*child_, offset, length);
}

io::Task<Result<ChainStatus>> Edge::chain_status(uint64_t offset, uint64_t length,
                                                 const Node* base) {
  if (Engine::must_wait(*this)) {
    co_await Engine::admitted(child_->graph_);
  }
  if (auto usable = Engine::check_active(*this); !usable) {
    co_return pass(usable);
  }
  co_return co_await Engine::chain_status(*child_, offset, length, base);
}

Node::Node(Graph& graph, std::string name, const DriverInfo& info, NodeOptions options)
    : graph_(graph), name_(std::move(name)), info_(info), options_(options) {}

Node::~Node() {
  assert(in_flight_ == 0 && "a request outlives its node");
  assert(parents_.empty());
}

void Node::set_driver(std::unique_ptr<Driver> driver) {
  driver_ = std::move(driver);
  driver_->node_ = this;
  translating_ = driver_->as_translating();
  request_ = driver_->as_request();
  limits_ = driver_->limits();
  FaultListener* const listener = driver_->fault_listener();
  observers_ += (listener != nullptr ? 1 : 0) - (fault_listener_ != nullptr ? 1 : 0);
  fault_listener_ = listener;
}

DirtyBitmap& Node::add_bitmap(std::unique_ptr<DirtyBitmap> bitmap) {
  if (bitmaps_ == nullptr) {
    bitmaps_ = std::make_unique<DirtyBitmaps>();
  }
  ++observers_;
  return bitmaps_->add(std::move(bitmap));
}

void Node::remove_bitmap(std::string_view name) {
  if (bitmaps_ != nullptr && bitmaps_->find(name) != nullptr) {
    bitmaps_->remove(name);
    --observers_;
  }
}

void Node::set_write_threshold(uint64_t offset) {
  observers_ += (offset != 0 ? 1 : 0) - (write_threshold_ != 0 ? 1 : 0);
  write_threshold_ = offset;
}

uint64_t Node::length() const { return align_up(driver_->length(), 512); }

Edge* Node::child(std::string_view name) const {
  const auto found =
      std::ranges::find_if(children_, [name](const auto& edge) { return edge->name() == name; });
  return found == children_.end() ? nullptr : found->get();
}

}  // namespace cairn::block
