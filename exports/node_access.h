// NodeAccess: the way from an export's front end to its node, which stays at home. A front end that
// runs there, too, goes straight to the edge; one that runs on an I/O thread has each request
// carried out at home and waits for it on its own thread.
//
// Invariants
// - Only home touches the node: its metadata, its requests and what they count need no locks.
// - Memory that a request reads into or writes from is home's until the request is done.
#pragma once

#include <cstdint>
#include <utility>

#include "base/result.h"
#include "block/node.h"
#include "io/call_on.h"
#include "io/iovector.h"
#include "io/reactor.h"
#include "io/task.h"

namespace cairn::exports {

class NodeAccess {
 public:
  // `root` outlives this, and so does `home`, its reactor. `away`: the front end is not there.
  NodeAccess(block::Edge& root, io::Reactor& home, bool away)
      : root_(root), home_(away ? &home : nullptr) {}

  [[nodiscard]] bool away() const { return home_ != nullptr; }

  // As those of the edge.
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) const;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) const;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) const;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) const;
  [[nodiscard]] io::Task<Result<void>> flush() const;

  // Whether a range is known to read as zeroes; then that has been read. Never known away from
  // home: read_or_zeroes() asks there.
  [[nodiscard]] bool try_read_zeroes(uint64_t offset, uint64_t length) const {
    return !away() && root_.try_read_zeroes(offset, length);
  }
  // Reads, unless the range is known to read as zeroes: then `data` stays as it is. Says whether
  // it is.
  [[nodiscard]] io::Task<Result<bool>> read_or_zeroes(uint64_t offset, io::IoVector data) const;

  // Runs the Task that make() returns at home, and returns its value here. make() is called there;
  // what it refers to outlives the task.
  template <typename Make>
  [[nodiscard]] auto at_home(Make make) const -> decltype(make()) {
    return away() ? go_home(*home_, std::move(make)) : make();
  }

 private:
  template <typename Make>
  [[nodiscard]] static auto go_home(io::Reactor& home, Make make) -> decltype(make()) {
    auto call = io::call_on(home, std::move(make));
    co_return co_await call;
  }

  block::Edge& root_;
  io::Reactor* home_;  // null: the front end is there
};

}  // namespace cairn::exports
