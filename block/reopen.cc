// From options to what a reopen does: which nodes it concerns, and what each of them is to have.
#include "block/reopen.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "block/reopen_options.h"
#include "block/reopening.h"

namespace cairn::block {

namespace {

// A node that is reopened, for itself or with its parent.
struct Wanted {
  std::shared_ptr<Node> node;
  schema::BlockdevOptions options;
  OpenFlags defaults;  // of what the options leave open
  Inherited inherited;
  bool given = false;  // the options are those of this reopen, else what it was opened with
  bool keeps = false;  // what nobody speaks of stays as it is

  [[nodiscard]] NodeOptions common() const {
    NodeOptions result = node_options(options, keeps ? inherited.flags(node->options()) : defaults);
    if (!options.discard) {
      result.discard_unmap = node->options().discard_unmap;  // the one that has no default here
    }
    result.active = node->active();
    return result;
  }
  // Another node is to be below it in place of the image file.
  [[nodiscard]] bool other_file() const {
    const Edge* file = node->child("file");
    const ChildWish wish = child_wish(options, "file");
    return given && file != nullptr && wish.kind == ChildWish::Kind::kName &&
           *wish.name != file->node().name();
  }
};

// The nodes that a reopen concerns, parents before the children that were made for them.
class Queue {
 public:
  [[nodiscard]] const std::vector<Wanted>& all() const { return wanted_; }

  // A node with its own options, and for children what their parent's make of them.
  void add(Wanted wanted);

 private:
  void add_children(const Wanted& parent);

  std::vector<Wanted> wanted_;
};

void Queue::add(Wanted wanted) {
  const auto known = std::ranges::find(wanted_, wanted.node, &Wanted::node);
  if (known != wanted_.end()) {
    // What was said of it before holds where the new options say nothing.
    wanted.options = wanted.given ? merge_options(wanted.options, known->options)
                                  : merge_options(known->options, wanted.options);
    wanted.given = wanted.given || known->given;
    wanted.keeps = wanted.keeps || known->keeps;
    *known = wanted;
  } else {
    wanted_.push_back(wanted);
  }
  add_children(wanted);
}

void Queue::add_children(const Wanted& parent) {
  for (const auto& edge : parent.node->children()) {
    if (!edge->owned()) {
      continue;
    }
    Wanted child{.node = edge->shared_node(),
                 .options = edge->node().opened_with(),
                 .defaults = child_flags(parent.common(), edge->role()),
                 .inherited = Inherited::from(parent.options, parent.inherited, edge->role()),
                 .keeps = true};
    if (parent.given) {
      const ChildWish wish = child_wish(parent.options, edge->name());
      const bool same = wish.kind == ChildWish::Kind::kName && *wish.name == edge->node().name();
      if (wish.kind == ChildWish::Kind::kInline) {
        child.options = *wish.options;
        child.given = true;
        child.keeps = false;
      } else if (!same && (wish.kind != ChildWish::Kind::kNothing || !parent.keeps)) {
        continue;  // it is to go, or plan_child() has something to say
      }
    }
    add(std::move(child));
  }
}

// What is said of a child that is described in place: only one that was made so can be meant.
Result<void> check_inline(const Edge* edge, std::string_view name,
                          const schema::BlockdevOptions& options) {
  if (edge == nullptr || !edge->owned()) {
    return fail(EINVAL, "Cannot change the option '{}.driver'", name);
  }
  if (options.node_name && *options.node_name != edge->node().name()) {
    return fail(EINVAL, "Cannot change the option 'node-name'");
  }
  return {};
}

// Compares what the options say of a child with the child there is, and notes what changes.
Result<void> plan_child(const Wanted& wanted, std::string_view name, ChildRole role,
                        Reopening& reopening) {
  if (!wanted.given) {
    return {};
  }
  Node& node = *wanted.node;
  const Edge* edge = node.child(name);
  const ChildWish wish = child_wish(wanted.options, name);
  switch (wish.kind) {
    case ChildWish::Kind::kNothing:
      if (edge != nullptr && edge->owned() && !wanted.keeps) {
        return fail(EINVAL, "Option 'driver' cannot be reset to its default value");
      }
      return {};
    case ChildWish::Kind::kInline:
      return check_inline(edge, name, *wish.options);
    case ChildWish::Kind::kNull:
      if (edge != nullptr) {
        reopening.add(Reopening::ChildChange{.parent = &node, .name = std::string(name)});
      }
      return {};
    case ChildWish::Kind::kName:
      break;
  }
  if (edge != nullptr && edge->node().name() == *wish.name) {
    return {};
  }
  if (role == ChildRole::kData) {
    return fail(EINVAL, "Cannot change the option '{}'", name);
  }
  std::shared_ptr<Node> child = reopening.graph().find(*wish.name);
  if (child == nullptr) {
    return fail(ENOENT, "Cannot find device='' nor node-name='{}'", *wish.name);
  }
  if (stands_on(*child, node)) {
    return fail(EINVAL, "Making '{}' a {} child of '{}' would create a cycle", child->name(), name,
                node.name());
  }
  reopening.add(Reopening::ChildChange{
      .parent = &node, .name = std::string(name), .child = std::move(child), .role = role});
  return {};
}

// Whether the driver sees anything of the change.
bool driver_concerned(const Wanted& wanted, const NodeOptions& common) {
  NodeOptions alike = wanted.node->options();
  alike.detect_zeroes = common.detect_zeroes;
  return alike != common || driver_options_differ(wanted.node->opened_with(), wanted.options);
}

Result<void> plan(const Wanted& wanted, Reopening& reopening) {
  const NodeOptions common = wanted.common();
  const bool unmap = common.detect_zeroes == NodeOptions::DetectZeroes::kUnmap;
  if (unmap && !common.discard_unmap) {
    return check_options(common);
  }
  if (wanted.given && !wanted.node->info().can_reopen) {
    return fail(ENOTSUP, "Block format '{}' used by node '{}' does not support reopening files",
                wanted.node->info().name, wanted.node->name());
  }
  if (wanted.given) {
    auto may = check_changes(wanted.node->info(), wanted.node->opened_with(), wanted.options);
    if (!may) {
      return may;
    }
  }
  if (auto fits = check_options(common); !fits) {
    return fits;
  }
  if (wanted.options.active && *wanted.options.active != wanted.node->active()) {
    return fail(EINVAL, "Cannot change the option 'active'");
  }
  constexpr std::pair<std::string_view, ChildRole> kChildren[] = {{"file", ChildRole::kImage},
                                                                  {"backing", ChildRole::kBacking},
                                                                  {"data-file", ChildRole::kData}};
  for (const auto& [name, role] : kChildren) {
    if (auto planned = plan_child(wanted, name, role, reopening); !planned) {
      return planned;
    }
  }
  auto driver = Reopening::NewDriver::kNever;
  if (wanted.other_file()) {
    driver = Reopening::NewDriver::kNewContent;
  } else if (driver_concerned(wanted, common)) {
    driver = Reopening::NewDriver::kWhenNeeded;
  }
  reopening.add(Reopening::Item{
      .node = wanted.node, .options = wanted.options, .common = common, .driver = driver});
  return {};
}

io::Task<Result<void>> run_queue(Graph& graph, const Queue& queue) {
  Reopening reopening(graph);
  for (const Wanted& wanted : queue.all()) {
    if (auto planned = plan(wanted, reopening); !planned) {
      co_return planned;
    }
  }
  co_return co_await reopening.run();
}

// An image that has a backing file, or names one, needs a word on what becomes of it.
Result<void> check_backing(const Node& node, const schema::BlockdevOptions& options) {
  const bool has_one =
      node.child("backing") != nullptr || !node.driver().backing_filename().empty();
  if (node.info().supports_backing && has_one &&
      child_wish(options, "backing").kind == ChildWish::Kind::kNothing) {
    return fail(EINVAL, "backing is missing for '{}'", node.name());
  }
  return {};
}

}  // namespace

io::Task<Result<void>> reopen(Graph& graph, std::vector<schema::BlockdevOptions> wanted) {
  Queue queue;
  for (schema::BlockdevOptions& options : wanted) {
    if (!options.node_name) {
      co_return fail(EINVAL, "node-name not specified");
    }
    std::shared_ptr<Node> node = graph.find(*options.node_name);
    if (node == nullptr) {
      co_return fail(ENOENT, "Failed to find node with node-name='{}'", *options.node_name);
    }
    if (auto said = check_backing(*node, options); !said) {
      co_return said;
    }
    queue.add({.node = std::move(node), .options = std::move(options), .given = true});
  }
  co_return co_await run_queue(graph, queue);
}

io::Task<Result<void>> set_read_only(std::shared_ptr<Node> node, bool read_only) {
  Graph& graph = node->graph();
  schema::BlockdevOptions options = node->opened_with();
  options.read_only = read_only;
  Queue queue;
  queue.add({.node = std::move(node), .options = std::move(options), .keeps = true});
  co_return co_await run_queue(graph, queue);
}

}  // namespace cairn::block
