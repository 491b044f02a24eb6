// NodeGraph: the nodes of a daemon and who uses them, and the forms in which they are shown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::ctl {

struct GraphVertex {
  enum class Kind : uint8_t { kNode, kExport, kJob, kDevice };

  Kind kind = Kind::kNode;
  std::string name;
  std::string detail;  // "qcow2, 10 GiB, read-only"
  std::string file;    // the name of the file, without its directories
};

struct GraphEdge {
  size_t from = 0;
  size_t to = 0;
  std::string name;  // "file", "backing"; empty from exports
};

struct NodeGraph {
  std::vector<GraphVertex> vertices;
  std::vector<GraphEdge> edges;
};

// From the answers of x-debug-query-block-graph, query-named-block-nodes and query-block-exports.
[[nodiscard]] Result<NodeGraph> make_graph(const schema::JsonValue& graph,
                                           const schema::JsonValue& nodes,
                                           const schema::JsonValue& exports);

// A tree of lines for each root; what has several parents is shown below the first.
[[nodiscard]] std::string graph_text(const NodeGraph& graph);
// In the language of graphviz.
[[nodiscard]] std::string graph_dot(const NodeGraph& graph);
// A picture of its own, svg.cc.
[[nodiscard]] std::string graph_svg(const NodeGraph& graph);

}  // namespace cairn::ctl
