#include "block/reopening.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include "block/engine.h"
#include "block/node_name.h"
#include "io/wait_in.h"

namespace cairn::block {

// A node that others of the set stand on comes after them.
std::vector<Reopening::Step*> Reopening::parents_first() {
  std::vector<Step*> left;
  for (Step& step : steps_) {
    left.push_back(&step);
  }
  std::vector<Step*> order;
  while (!left.empty()) {
    const auto top = std::ranges::find_if(left, [&left](const Step* one) {
      return std::ranges::none_of(left, [one](const Step* other) {
        return other != one && stands_on(*other->item.node, *one->item.node);
      });
    });
    order.push_back(*top);
    left.erase(top);
  }
  return order;
}

void Reopening::add(Item item) {
  auto hold = Graph::hold(item.node);
  steps_.push_back({.item = std::move(item), .hold = std::move(hold)});
}

io::Task<Result<void>> Reopening::run() {
  Result<void> result = co_await run_held();
  for (Step& step : steps_) {
    Result<void> released = co_await graph_.detach(std::move(step.hold));
    if (!released && result) {
      result = std::move(released);
    }
  }
  co_return result;
}

io::Task<Result<void>> Reopening::run_held() {
  Result<void> result = co_await quiesce();
  if (result) {
    result = apply();
  }
  if (result) {
    result = co_await make_drivers();
  }
  if (!result) {
    co_await take_back();
    co_return result;
  }
  co_return co_await finish();
}

io::Task<Result<void>> Reopening::quiesce() {
  const std::vector<Step*> order = parents_first();
  for (Step* step : order) {
    Node& node = *step->item.node;
    if (!node.active()) {
      continue;
    }
    Result<void> result = co_await node.driver().quiesce();
    if (result) {
      // What the driver did to its children has reached them; they make it durable.
      result = co_await Engine::flush_node(node);
    }
    if (!result) {
      co_return result;
    }
  }
  for (const ChildChange& change : child_changes_) {
    if (const Edge* edge = change.parent->child(change.name); edge != nullptr) {
      Result<void> result = co_await settle_below(edge->node());
      if (!result) {
        co_return result;
      }
    }
  }
  co_return Result<void>{};
}

// Nobody keeps for a parent that goes what the next one may need.
io::Task<Result<void>> Reopening::settle_below(Node& node) {
  Result<void> result;
  if (node.active()) {
    result = co_await node.driver().clear_leftovers();
  }
  for (const auto& edge : node.children()) {
    if (result) {
      result = co_await settle_below(edge->node());
    }
  }
  co_return result;
}

Result<void> Reopening::change_child(const ChildChange& change) {
  Edge* const edge = change.parent->child(change.name);
  if (change.child == nullptr) {
    if (edge != nullptr) {
      edit_.remove_child(*edge);
    }
    return {};
  }
  return edge != nullptr ? edit_.replace_child(*edge, change.child)
                         : edit_.add_child(*change.parent, change.name, change.child, change.role);
}

// Somebody looks at bitmaps that would not be the node's any more.
Result<void> Reopening::check_bitmaps(const Step& step) {
  const Node& node = *step.item.node;
  const bool go = step.item.takes_bitmaps || step.item.driver == NewDriver::kNewContent;
  if (!go || node.bitmaps() == nullptr) {
    return {};
  }
  for (const auto& bitmap : node.bitmaps()->all()) {
    if (bitmap->persistent() && bitmap->busy()) {
      return bitmap->check();
    }
  }
  return {};
}

Result<void> Reopening::apply() {
  for (const Step& step : steps_) {
    if (auto idle = check_bitmaps(step); !idle) {
      return idle;
    }
  }
  for (const ChildChange& change : child_changes_) {
    if (auto changed = change_child(change); !changed) {
      return changed;
    }
  }
  for (Step& step : steps_) {
    Node& node = *step.item.node;
    step.before = node.options();
    step.filename = node.filename();
    edit_.change_options(node, step.item.common);
    auto adopted = node.driver().adopt_options(step.item.common, step.item.options);
    if (!adopted) {
      return pass(adopted);
    }
    step.adopted = *adopted;
    if (step.item.takes_bitmaps) {
      step.bitmaps = take_bitmaps(node);
      step.bitmaps_taken = true;
    }
  }
  auto prepared = edit_.prepare();
  for (const Step& step : steps_) {
    step.item.node->limits_ = step.item.node->driver().limits();  // of leaves that go on
  }
  return prepared;
}

Reopening::Bitmaps Reopening::take_bitmaps(Node& node) {
  if (node.bitmaps_ == nullptr) {
    return {};
  }
  Bitmaps taken = node.bitmaps_->take_persistent();
  node.observers_ -= static_cast<int>(taken.size());
  return taken;
}

io::Task<std::unique_ptr<Driver>> Reopening::install(Node& node, std::unique_ptr<Driver> driver) {
  // Nodes that are just being opened may be reading from it.
  while (node.in_flight_ != 0) {
    co_await io::WaitIn(node.in_flight_waiters_);
  }
  std::unique_ptr<Driver> previous = std::move(node.driver_);
  node.set_driver(std::move(driver));
  node.units_.clear();
  co_return previous;
}

io::Task<Result<void>> Reopening::make_driver(Step& step) {
  Node& node = *step.item.node;
  const bool new_content = step.item.driver == NewDriver::kNewContent;
  if (step.adopted) {
    co_return new_content ? node.driver().refresh() : Result<void>{};
  }
  if (new_content && !step.bitmaps_taken) {
    step.bitmaps = take_bitmaps(node);
    step.bitmaps_taken = true;
  }
  const OpenFlags flags{.no_backing = !node.chain_wanted_, .probed = node.probed_};
  OpenContext context(graph_, node, flags, true);
  auto driver = co_await node.info().open(context, step.item.options);
  if (!driver) {
    co_return pass(driver);
  }
  step.previous = co_await install(node, std::move(*driver));
  co_return Result<void>{};
}

io::Task<Result<void>> Reopening::make_drivers() {
  std::vector<Step*> order = parents_first();
  std::ranges::reverse(order);
  for (Step* step : order) {
    if (step->item.driver == NewDriver::kNever) {
      continue;
    }
    Result<void> made = co_await make_driver(*step);
    if (!made) {
      co_return made;
    }
  }
  co_return Result<void>{};
}

io::Task<void> Reopening::take_back() {
  for (Step& step : std::views::reverse(steps_)) {
    Node& node = *step.item.node;
    if (step.previous != nullptr) {
      const std::unique_ptr<Driver> unused = co_await install(node, std::move(step.previous));
      unused->retire();
    }
    if (!step.filename.empty()) {
      node.set_filename(std::move(step.filename));  // a leaf may have been told another one
    }
    if (step.bitmaps_taken) {
      take_bitmaps(node).clear();
      for (std::unique_ptr<DirtyBitmap>& bitmap : step.bitmaps) {
        node.add_bitmap(std::move(bitmap));
      }
    }
    if (step.adopted) {
      // It went on with these before.
      const Result<bool> adopted = node.driver().adopt_options(step.before, node.opened_with());
      static_cast<void>(adopted);
    }
  }
  edit_.abort();
  for (const Step& step : steps_) {
    step.item.node->limits_ = step.item.node->driver().limits();
  }
}

io::Task<Result<void>> Reopening::finish() {
  for (Step& step : steps_) {
    Node& node = *step.item.node;
    node.opened_with_ =
        std::make_shared<const schema::BlockdevOptions>(std::move(step.item.options));
    if (step.previous != nullptr) {
      step.previous->retire();
      step.previous.reset();
      name_node(node, node.opened_with(), node.chain_wanted_);
    }
    node.limits_ = node.driver().limits();
    if (node.bitmaps_ == nullptr) {
      continue;
    }
    node.bitmaps_->resize(node.length());
    for (const auto& bitmap : node.bitmaps_->all()) {
      bitmap->set_read_only(bitmap->persistent() && node.read_only());
    }
  }
  co_return co_await edit_.commit();
}

}  // namespace cairn::block
