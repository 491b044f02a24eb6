#include "tests/support/simulated_world.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "io/reactor.h"
#include "io/timer.h"

namespace cairn::testing {
namespace {

thread_local SimulatedWorld* current_world = nullptr;

}  // namespace

std::string_view to_string(IoKind kind) {
  constexpr std::string_view kNames[kIoKinds] = {"read",    "write", "zero",
                                                 "discard", "flush", "resize"};
  return kNames[static_cast<std::size_t>(kind)];
}

SimulatedWorld::SimulatedWorld(uint64_t seed) : random_(seed) {
  assert(current_world == nullptr);
  current_world = this;
}

SimulatedWorld::~SimulatedWorld() { current_world = nullptr; }

SimulatedWorld& SimulatedWorld::current() {
  assert(current_world != nullptr);
  return *current_world;
}

SimulatedFile& SimulatedWorld::add(std::string name, SparseBytes content, FileTraits traits) {
  auto& file = files_[name];
  file =
      std::make_unique<SimulatedFile>(std::move(name), SimulatedDisk(std::move(content)), traits);
  return *file;
}

SimulatedFile& SimulatedWorld::create(std::string_view path, uint64_t size) {
  return add(std::string(path.substr(path.rfind('/') + 1)), SparseBytes(size), default_traits_);
}

SimulatedFile* SimulatedWorld::find(std::string_view path) {
  const auto it = files_.find(path.substr(path.rfind('/') + 1));
  return it == files_.end() ? nullptr : it->second.get();
}

void SimulatedWorld::cut_power() {
  assert(powered_);
  note("power cut", submitted_);
  powered_ = false;
  cut_at_.reset();
  for (const auto& [name, file] : files_) {
    survivors_.insert_or_assign(name, file->disk.power_cut(random_));
  }
}

void SimulatedWorld::restore_power() {
  assert(in_flight_ == 0);
  cut_at_.reset();
  if (!std::exchange(powered_, true)) {
    for (auto& [name, content] : std::exchange(survivors_, {})) {
      files_.at(name)->disk = SimulatedDisk(std::move(content));
    }
  }
}

SimulatedWorld::Fate SimulatedWorld::begin(const SimulatedFile& file, IoKind kind, uint64_t offset,
                                           uint64_t length) {
  ++in_flight_;
  if (!powered_) {
    return {EIO, false};
  }
  ++counts_[static_cast<std::size_t>(kind)];
  bytes_[static_cast<std::size_t>(kind)] += length;
  note(fmt::format("{} {}", file.name, to_string(kind)), offset, length);
  if (++submitted_ == cut_at_) {
    cut_power();
    return {EIO, false};
  }
  for (ArmedRule& armed : rules_) {
    const FaultRule& rule = armed.rule;
    const bool touches = offset < rule.offset + std::min(rule.length, UINT64_MAX - rule.offset) &&
                         rule.offset < offset + std::max<uint64_t>(length, 1);
    if ((rule.kind && *rule.kind != kind) || !touches ||
        (!rule.file.empty() && rule.file != file.name)) {
      continue;
    }
    const uint64_t turn = armed.matched++;
    if (turn >= rule.after && turn - rule.after < rule.times) {
      ++faults_;
      note("fault", static_cast<uint64_t>(rule.error));
      return {rule.error, rule.torn};
    }
  }
  return {};
}

io::Task<void> SimulatedWorld::pass_time() {
  if (longest_delay_ == io::Duration::zero()) {
    co_return;
  }
  const auto most = static_cast<uint64_t>(longest_delay_.count());
  // Some requests take no time at all, a few take much longer than the others.
  const uint64_t shape = random_.below(8);
  const uint64_t time = shape == 0 ? 0 : random_.below(shape == 1 ? straggling_ * most : most);
  const io::Duration delay(static_cast<io::Duration::rep>(time));
  co_await io::sleep_for(delay);
}

void SimulatedWorld::violate(std::string what) {
  note(what);
  violations_.push_back(std::move(what));
}

void SimulatedWorld::note(std::string_view what, uint64_t a, uint64_t b) {
  for (const char c : what) {
    fingerprint_ = fingerprint_ * 0x100000001b3U ^ static_cast<unsigned char>(c);
  }
  fingerprint_ = scatter(fingerprint_ ^ scatter(a + 1) ^ scatter(b + 2) * 3);
  if (trace_) {
    const io::Reactor* reactor = io::Reactor::current_or_null();
    fmt::print(
        stderr, "{:>12} {} {} {}\n",
        reactor != nullptr ? reactor->now().time_since_epoch().count() % 1'000'000'000'000 : 0,
        what, a, b);
  }
}

}  // namespace cairn::testing
