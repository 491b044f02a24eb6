#include "tools/ctl/graph.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/size_text.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

std::unexpected<Error> unexpected_answer() {
  return fail(EPROTO, "The daemon describes its nodes in an unknown way");
}

void describe_nodes(NodeGraph& graph, const JsonValue& nodes) {
  for (const JsonObject* info : objects_in(&nodes)) {
    const std::string name = clean_text_in(*info, "node-name");
    const auto at = std::ranges::find_if(graph.vertices, [&](const GraphVertex& vertex) {
      return vertex.kind == GraphVertex::Kind::kNode && vertex.name == name;
    });
    if (at == graph.vertices.end()) {
      continue;
    }
    at->detail = clean_text_in(*info, "drv");
    const JsonObject* image = object_in(*info, "image");
    const int64_t size = image ? number_in(*image, "virtual-size", -1) : -1;
    if (size >= 0) {
      at->detail += ", " + format_size(static_cast<uint64_t>(size));
    }
    at->detail += flag_in(*info, "ro") ? ", read-only" : "";
    const std::string file = clean_text_in(*info, "file");
    // Some drivers describe themselves in JSON where others have a name.
    if (!file.starts_with("json:")) {
      at->file = file.substr(file.rfind('/') + 1);
    }
  }
}

// Exports are roots that the graph itself does not name.
void add_exports(NodeGraph& graph, const JsonValue& exports) {
  for (const JsonObject* info : objects_in(&exports)) {
    const std::string node = clean_text_in(*info, "node-name");
    const auto at = std::ranges::find(graph.vertices, node, &GraphVertex::name);
    if (at == graph.vertices.end()) {
      continue;
    }
    const auto index = static_cast<size_t>(at - graph.vertices.begin());
    graph.edges.push_back({.from = graph.vertices.size(), .to = index, .name = ""});
    graph.vertices.push_back({.kind = GraphVertex::Kind::kExport,
                              .name = clean_text_in(*info, "id"),
                              .detail = clean_text_in(*info, "type") + " export",
                              .file = ""});
  }
}

class Tree {
 public:
  explicit Tree(const NodeGraph& graph) : graph_(graph), shown_(graph.vertices.size()) {}

  [[nodiscard]] std::string text() {
    // Who uses nodes comes before nodes that nobody uses. What is left over then is a cycle.
    for (const bool users : {true, false}) {
      for (size_t i = 0; i < graph_.vertices.size(); ++i) {
        const bool is_user = graph_.vertices[i].kind != GraphVertex::Kind::kNode;
        const bool root = std::ranges::find(graph_.edges, i, &GraphEdge::to) == graph_.edges.end();
        if (root && is_user == users) {
          line(i, "", "", "");
        }
      }
    }
    for (size_t i = 0; i < graph_.vertices.size(); ++i) {
      if (!shown_[i]) {
        line(i, "", "", "");
      }
    }
    return std::move(out_);
  }

 private:
  void line(size_t at, const std::string& edge, const std::string& prefix,
            const std::string& branch) {
    const GraphVertex& vertex = graph_.vertices[at];
    std::vector<const GraphEdge*> below;
    for (const GraphEdge& child : graph_.edges) {
      if (child.from == at) {
        below.push_back(&child);
      }
    }
    out_ += prefix + branch + (edge.empty() ? "" : edge + ": ") + vertex.name;
    if (shown_[at]) {
      out_ += below.empty() ? "  (above)\n" : "  (see above)\n";
      return;
    }
    shown_[at] = true;
    out_ += vertex.detail.empty() ? "" : fmt::format("  ({})", vertex.detail);
    out_ += vertex.file.empty() || !below.empty() ? "\n" : "  " + vertex.file + "\n";
    const std::string deeper = prefix + (branch.empty()            ? ""
                                         : branch.starts_with("└") ? "   "
                                                                   : "│  ");
    for (const GraphEdge* child : below) {
      line(child->to, child->name, deeper, child == below.back() ? "└─ " : "├─ ");
    }
  }

  const NodeGraph& graph_;
  std::vector<bool> shown_;
  std::string out_;
};

std::string dot_string(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    result += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return result + "\"";
}

}  // namespace

Result<NodeGraph> make_graph(const JsonValue& graph, const JsonValue& nodes,
                             const JsonValue& exports) {
  const JsonObject* root = graph.as_object();
  if (!root || !root->find("nodes") || !root->find("edges")) {
    return unexpected_answer();
  }
  NodeGraph result;
  std::map<int64_t, size_t> indices;
  for (const JsonObject* vertex : objects_in(root->find("nodes"))) {
    const std::string type = clean_text_in(*vertex, "type");
    const std::string name = clean_text_in(*vertex, "name");
    if (type == "block-backend" && name.empty()) {
      // An export or a job, which are known by other means.
      continue;
    }
    indices[number_in(*vertex, "id", -1)] = result.vertices.size();
    const bool job = type == "block-job";
    result.vertices.push_back({.kind = type == "block-driver" ? GraphVertex::Kind::kNode
                                       : job                  ? GraphVertex::Kind::kJob
                                                              : GraphVertex::Kind::kDevice,
                               .name = name,
                               .detail = job                      ? "job"
                                         : type == "block-driver" ? ""
                                                                  : "device",
                               .file = ""});
  }
  for (const JsonObject* edge : objects_in(root->find("edges"))) {
    const auto from = indices.find(number_in(*edge, "parent", -1));
    const auto to = indices.find(number_in(*edge, "child", -1));
    if (from != indices.end() && to != indices.end()) {
      result.edges.push_back(
          {.from = from->second, .to = to->second, .name = clean_text_in(*edge, "name")});
    }
  }
  // A graph lists its edges by the child; people look for the data first, then for the backing.
  std::ranges::sort(result.edges, [](const GraphEdge& a, const GraphEdge& b) {
    return std::tuple(a.from, a.name == "backing", a.name, a.to) <
           std::tuple(b.from, b.name == "backing", b.name, b.to);
  });
  describe_nodes(result, nodes);
  add_exports(result, exports);
  return result;
}

std::string graph_text(const NodeGraph& graph) { return Tree(graph).text(); }

std::string graph_dot(const NodeGraph& graph) {
  std::string out = "digraph nodes {\n  node [shape=box, fontname=\"sans-serif\"];\n";
  for (size_t i = 0; i < graph.vertices.size(); ++i) {
    const GraphVertex& vertex = graph.vertices[i];
    std::string label = dot_string(vertex.name);
    label.pop_back();
    label += "\\n" + dot_string(vertex.detail).substr(1);
    const bool user = vertex.kind != GraphVertex::Kind::kNode;
    out += fmt::format("  v{} [label={}{}];\n", i, label, user ? ", style=rounded" : "");
  }
  for (const GraphEdge& edge : graph.edges) {
    out += fmt::format("  v{} -> v{}{};\n", edge.from, edge.to,
                       edge.name.empty() ? "" : fmt::format(" [label={}]", dot_string(edge.name)));
  }
  return out + "}\n";
}

Exit run_graph(const Options& options) {
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  std::vector<JsonValue> answers;
  JsonObject flat;
  flat.add("flat", true);
  const std::pair<std::string_view, JsonValue> queries[] = {
      {"x-debug-query-block-graph", JsonObject()},
      {"query-named-block-nodes", std::move(flat)},
      {"query-block-exports", JsonObject()}};
  for (const auto& [command, arguments] : queries) {
    auto reply = connection->execute(command, arguments);
    if (!reply) {
      return complain(Exit::kNoConnection, reply.error().message());
    }
    if (reply->refused) {
      return complain(Exit::kRefused, fmt::format("{}: {}", command, reply->description));
    }
    answers.push_back(std::move(reply->value));
  }
  const auto graph = make_graph(answers[0], answers[1], answers[2]);
  if (!graph) {
    return complain(Exit::kNoConnection, graph.error().message());
  }
  if (options.output != Output::kText) {
    print_value(answers[0], options.command, options);
  } else if (graph->vertices.empty() && options.format != "dot" && options.format != "svg") {
    fmt::print("(none)\n");
  } else {
    fmt::print("{}", options.format == "svg"   ? graph_svg(*graph)
                     : options.format == "dot" ? graph_dot(*graph)
                                               : graph_text(*graph));
  }
  return Exit::kOk;
}

}  // namespace cairn::ctl
