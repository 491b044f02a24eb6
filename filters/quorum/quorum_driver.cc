#include "filters/quorum/quorum_driver.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "block/graph.h"
#include "io/buffer.h"
#include "io/task_group.h"

namespace cairn::filters::quorum {

namespace {

constexpr uint64_t kSector = 512;
constexpr std::size_t kNobody = SIZE_MAX;

// Of two children that have to agree.
[[noreturn]] void end_program(uint64_t offset, uint64_t length, uint64_t difference) {
  std::fflush(stdout);
  fmt::print(stderr, "quorum: offset={} bytes={} contents mismatch at offset {}\n", offset, length,
             offset + difference);
  std::_Exit(EXIT_FAILURE);
}

}  // namespace

// What a request is about.
struct QuorumDriver::Request {
  block::VoteReport::Request kind;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct QuorumDriver::Answer {
  block::Edge* child = nullptr;
  Result<void> outcome;
  io::AlignedBuffer data;         // of a read
  std::size_t version = kNobody;  // the first of those that have the same data
};

QuorumDriver::QuorumDriver(const block::Node& node, Settings settings)
    : self_(node), settings_(settings), next_index_(node.children().size()) {}

uint64_t QuorumDriver::length() const { return self_.children().front()->length(); }

std::vector<QuorumDriver::Answer> QuorumDriver::ask() {
  std::vector<Answer> answers(self_.children().size());
  for (std::size_t i = 0; i < answers.size(); ++i) {
    answers[i].child = self_.children()[i].get();
  }
  return answers;
}

void QuorumDriver::report_child(const Request& request, const block::Edge& child,
                                std::string error) const {
  block::VoteReport report{.about_child = true,
                           .node_name = child.node().name(),
                           .request = request.kind,
                           .error = std::move(error)};
  report.first_sector = request.offset / kSector;
  report.sectors =
      align_up(request.offset + request.length, kSector) / kSector - report.first_sector;
  self_.graph().report_vote(report);
}

void QuorumDriver::report_failure(const Request& request) const {
  block::VoteReport report{.node_name = self_.name(), .request = request.kind};
  report.first_sector = request.offset / kSector;
  report.sectors =
      align_up(request.offset + request.length, kSector) / kSector - report.first_sector;
  self_.graph().report_vote(report);
}

// Tells of the children that failed. When too few did not, the error is that of most of them.
Result<void> QuorumDriver::settle(const Request& request, const std::vector<Answer>& answers) {
  std::size_t successes = 0;
  std::map<int, std::size_t> votes;
  int worst = 0;
  for (const Answer& answer : answers) {
    if (answer.outcome) {
      ++successes;
      continue;
    }
    const int code = answer.outcome.error().code();
    ++votes[code];
    report_child(request, *answer.child, std::strerror(code));
  }
  if (successes >= settings_.threshold) {
    return {};
  }
  // Of several with as many votes the one that was heard last.
  for (const Answer& answer : answers) {
    if (!answer.outcome && votes[answer.outcome.error().code()] >= votes[worst]) {
      worst = answer.outcome.error().code();
    }
  }
  if (request.kind != block::VoteReport::Request::kFlush) {
    report_failure(request);
  }
  return std::unexpected(Error::from_errno(worst));
}

io::Task<Result<void>> QuorumDriver::read(uint64_t offset, io::IoVector data) {
  return settings_.first_only ? read_first(offset, std::move(data))
                              : read_voted(offset, std::move(data));
}

io::Task<Result<void>> QuorumDriver::read_first(uint64_t offset, io::IoVector data) {
  const Request request{block::VoteReport::Request::kRead, offset, data.size()};
  Result<void> result;
  for (const auto& child : self_.children()) {
    result = co_await child->read(offset, data);
    if (result) {
      co_return result;
    }
    report_child(request, *child, std::strerror(result.error().code()));
  }
  co_return result;
}

// Who has the data that most have; ENOENT when too few have it.
Result<std::size_t> QuorumDriver::vote(std::vector<Answer>& answers) const {
  std::vector<std::size_t> votes(answers.size());
  std::size_t winner = kNobody;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i].outcome) {
      continue;
    }
    const auto same = std::ranges::find_if(answers, [&](const Answer& other) {
      return other.version != kNobody &&
             std::ranges::equal(other.data.span(), answers[i].data.span());
    });
    answers[i].version = same == answers.end() ? i : same->version;
    ++votes[answers[i].version];
  }
  for (std::size_t i = 0; i < answers.size(); ++i) {
    // Of several with as many votes the one that was heard last.
    if (votes[i] != 0 && (winner == kNobody || votes[i] >= votes[winner])) {
      winner = i;
    }
  }
  if (winner == kNobody || votes[winner] < settings_.threshold) {
    return fail(ENOENT, "Too few children of '{}' agree", self_.name());
  }
  return winner;
}

io::Task<Result<void>> QuorumDriver::read_voted(uint64_t offset, io::IoVector data) {
  const Request request{block::VoteReport::Request::kRead, offset, data.size()};
  std::vector<Answer> answers = ask();
  for (Answer& answer : answers) {
    auto buffer = io::AlignedBuffer::allocate(data.size());
    if (!buffer) {
      co_return pass(buffer);
    }
    answer.data = std::move(*buffer);
  }
  const auto read_one = [](uint64_t at, Answer& answer) -> io::Task<void> {
    answer.outcome = co_await answer.child->read(at, answer.data.data(), answer.data.size());
  };
  io::TaskGroup group;
  for (Answer& answer : answers) {
    group.spawn(read_one(offset, answer));
  }
  co_await group.join();
  if (auto enough = settle(request, answers); !enough) {
    co_return enough;
  }
  if (settings_.end_on_difference && answers[0].outcome && answers[1].outcome) {
    const auto a = answers[0].data.span();
    const auto differ = std::ranges::mismatch(a, answers[1].data.span());
    if (differ.in1 != a.end()) {
      end_program(offset, data.size(), static_cast<uint64_t>(differ.in1 - a.begin()));
    }
  }
  const Result<std::size_t> winner = vote(answers);
  if (!winner) {
    report_failure(request);
    co_return std::unexpected(Error::from_errno(EIO));
  }
  data.copy_from(0, answers[*winner].data.span());
  co_await mend(request, answers, *winner, data);
  co_return Result<void>{};
}

// Tells of the children that were outvoted, and gives them the right data.
io::Task<void> QuorumDriver::mend(const Request& request, std::vector<Answer>& answers,
                                  std::size_t winner, io::IoVector right) {
  for (Answer& answer : answers) {
    if (answer.version == kNobody || answer.version == winner) {
      continue;
    }
    report_child(request, *answer.child, {});
    if (settings_.rewrite) {
      // One that can not be mended will be outvoted again.
      const Result<void> mended = co_await answer.child->write(request.offset, right);
      static_cast<void>(mended);
    }
  }
}

io::Task<Result<void>> QuorumDriver::write(uint64_t offset, io::IoVector data,
                                           block::WriteFlags flags) {
  const Request request{block::VoteReport::Request::kWrite, offset, data.size()};
  std::vector<Answer> answers = ask();
  const auto write_one = [](uint64_t at, io::IoVector bytes, block::WriteFlags how,
                            Answer& answer) -> io::Task<void> {
    answer.outcome = co_await answer.child->write(at, std::move(bytes), how);
  };
  io::TaskGroup group;
  for (Answer& answer : answers) {
    group.spawn(write_one(offset, data, flags, answer));
  }
  co_await group.join();
  co_return settle(request, answers);
}

io::Task<Result<void>> QuorumDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                  block::ZeroFlags flags) {
  const Request request{block::VoteReport::Request::kWrite, offset, length};
  std::vector<Answer> answers = ask();
  const auto zero_one = [](const Request what, block::ZeroFlags how,
                           Answer& answer) -> io::Task<void> {
    answer.outcome = co_await answer.child->write_zeroes(what.offset, what.length, how);
  };
  io::TaskGroup group;
  for (Answer& answer : answers) {
    group.spawn(zero_one(request, flags, answer));
  }
  co_await group.join();
  co_return settle(request, answers);
}

io::Task<Result<void>> QuorumDriver::flush() {
  std::vector<Answer> answers = ask();
  const auto flush_one = [](Answer& answer) -> io::Task<void> {
    answer.outcome = co_await answer.child->flush();
  };
  io::TaskGroup group;
  for (Answer& answer : answers) {
    group.spawn(flush_one(answer));
  }
  co_await group.join();
  co_return settle({block::VoteReport::Request::kFlush}, answers);
}

// Zeroes where all say so; elsewhere the vote will tell.
io::Task<Result<block::BlockStatus>> QuorumDriver::status(uint64_t offset, uint64_t length) {
  const Request request{block::VoteReport::Request::kRead, offset, length};
  block::BlockStatus together{.length = length, .zero = true, .allocated = true};
  for (const auto& child : self_.children()) {
    const Result<block::BlockStatus> one = co_await child->status(offset, together.length);
    if (!one) {
      report_child(request, *child, std::strerror(one.error().code()));
      continue;
    }
    together.length = std::min(together.length, one->length);
    if (!one->zero) {
      together.zero = false;
      break;
    }
  }
  together.data = !together.zero;
  co_return together;
}

block::Permissions QuorumDriver::child_permissions(block::ChildRole /*role*/,
                                                   block::Permissions parents,
                                                   bool writable) const {
  using P = block::PermissionSet;
  P used = parents.used;
  if (settings_.rewrite && writable) {
    used |= P::kWrite;
  }
  return {.used = used, .shared = parents.shared & (P::kConsistentRead | P::kWriteUnchanged)};
}

Result<std::string> QuorumDriver::name_new_child() const {
  if (settings_.end_on_difference) {
    return fail(ENOTSUP, "Cannot add a child to a quorum in blkverify mode");
  }
  return fmt::format("children.{}", next_index_);
}

Result<void> QuorumDriver::may_remove_child(const block::Edge& /*child*/) const {
  if (self_.children().size() <= settings_.threshold) {
    return fail(EINVAL, "The number of children cannot be lower than the vote threshold {}",
                settings_.threshold);
  }
  return {};
}

void QuorumDriver::children_changed() {
  constexpr std::string_view kPrefix = "children.";
  next_index_ = 0;
  for (const auto& child : self_.children()) {
    const std::string_view digits = std::string_view(child->name()).substr(kPrefix.size());
    next_index_ = std::max<std::size_t>(next_index_, std::strtoull(digits.data(), nullptr, 10) + 1);
  }
}

}  // namespace cairn::filters::quorum
