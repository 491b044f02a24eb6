#include "jobs/block_job.h"

#include <algorithm>
#include <cerrno>

#include "io/reactor.h"
#include "jobs/job_list.h"

namespace cairn::jobs {

using schema::BlockdevOnError;
using schema::BlockErrorAction;

namespace {

BlockErrorAction action_for(BlockdevOnError policy, const Error& error) {
  switch (policy) {
    case BlockdevOnError::kIgnore:
      return BlockErrorAction::kIgnore;
    case BlockdevOnError::kStop:
      return BlockErrorAction::kStop;
    case BlockdevOnError::kEnospc:
    case BlockdevOnError::kAuto:
      return error.code() == ENOSPC ? BlockErrorAction::kStop : BlockErrorAction::kReport;
    case BlockdevOnError::kReport:
      break;
  }
  return BlockErrorAction::kReport;
}

}  // namespace

void BlockJob::set_speed(uint64_t speed) {
  limit_.set_speed(speed);
  wake_sleepers();
}

Result<void> BlockJob::change(const schema::BlockJobChangeOptions& /*wanted*/) {
  return fail(ENOTSUP, "Job type does not support change");
}

bool BlockJob::blocks(const block::Node& node) const {
  return std::ranges::any_of(kept_, [&node](const auto& edge) { return &edge->node() == &node; });
}

Result<void> BlockJob::keep(std::string role, std::shared_ptr<block::Node> node,
                            block::Permissions permissions) {
  auto edge = std::make_unique<block::Edge>(
      std::move(role), nullptr, std::move(node), block::ChildRole::kFiltered,
      fmt::format("{} job '{}'", schema::to_string(type()), id()));
  if (auto agreed = graph_.set_permissions(*edge, permissions); !agreed) {
    return agreed;
  }
  kept_.push_back(std::move(edge));
  return {};
}

Result<block::Edge*> BlockJob::attach(std::shared_ptr<block::Node> node,
                                      block::Permissions permissions) {
  auto edge = graph_.attach(std::move(node), "", permissions);
  if (!edge) {
    return pass(edge);
  }
  attached_.push_back(std::move(*edge));
  return attached_.back().get();
}

io::Task<Result<void>> BlockJob::drop(block::Edge* edge) {
  const auto found = std::ranges::find(attached_, edge, &std::unique_ptr<block::Edge>::get);
  std::unique_ptr<block::Edge> last = std::move(*found);
  attached_.erase(found);
  co_return co_await graph_.detach(std::move(last));
}

io::Task<Result<void>> BlockJob::release_nodes() {
  Result<void> result;
  for (auto* edges : {&attached_, &kept_}) {
    while (!edges->empty()) {
      std::unique_ptr<block::Edge> last = std::move(edges->back());
      edges->pop_back();
      Result<void> released = co_await graph_.detach(std::move(last));
      result = result ? std::move(released) : std::move(result);
    }
  }
  co_return result;
}

// A node that can not write out the rest when it is closed tells its own story.
io::Task<void> BlockJob::clean() {
  const Result<void> released = co_await release_nodes();
  static_cast<void>(released);
}

Result<void> BlockJob::announce(JobList& list) {
  Result<void> good = list.announce(*this);
  if (good && asked_speed_ < 0) {
    return fail(EINVAL, "Parameter 'speed' expects a non-negative value");
  }
  return good;
}

BlockErrorAction BlockJob::on_error(BlockdevOnError policy, schema::IoOperationType operation,
                                    const Error& error) {
  const BlockErrorAction action = action_for(policy, error);
  if (action == BlockErrorAction::kStop) {
    io_status_ = error.code() == ENOSPC ? schema::BlockDeviceIoStatus::kNospace
                                        : schema::BlockDeviceIoStatus::kFailed;
    pause_itself();
    wake_sleepers();
  }
  if (list().events().error) {
    list().events().error(*this, operation, action);
  }
  return action;
}

void BlockJob::charge(uint64_t bytes) { limit_.charge(bytes, io::Reactor::current().now()); }

io::Task<void> BlockJob::may_go_on() {
  co_await pause_point();
  while (!cancelled() && limit_.next() > io::Reactor::current().now()) {
    co_await sleep_until(limit_.next());
    co_await pause_point();
  }
}

}  // namespace cairn::jobs
