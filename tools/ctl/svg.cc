// The node graph as a picture that needs nothing but a browser.
#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "tools/ctl/graph.h"
#include "tools/ctl/layout.h"
#include "tools/ctl/text.h"

namespace cairn::ctl {

namespace {

constexpr double kColumn = 7.3;  // of a character, 12 px high
constexpr double kLineHeight = 16;
constexpr double kPadding = 10;
constexpr size_t kMostColumns = 40;

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::vector<std::string> lines_of(const GraphVertex& vertex) {
  std::vector<std::string> lines{cut(vertex.name, kMostColumns)};
  for (const std::string& more : {vertex.detail, vertex.file}) {
    if (!more.empty()) {
      lines.push_back(cut(more, kMostColumns));
    }
  }
  return lines;
}

std::string_view class_of(const GraphVertex& vertex) {
  switch (vertex.kind) {
    case GraphVertex::Kind::kExport:
      return "export";
    case GraphVertex::Kind::kJob:
      return "job";
    case GraphVertex::Kind::kDevice:
      return "device";
    case GraphVertex::Kind::kNode:
      break;
  }
  return "node";
}

Picture picture_of(const NodeGraph& graph) {
  Picture picture;
  for (const GraphVertex& vertex : graph.vertices) {
    const auto lines = lines_of(vertex);
    size_t columns = 4;
    for (const std::string& line : lines) {
      columns = std::max(columns, display_width(line));
    }
    picture.boxes.push_back(
        {.width = std::ceil(static_cast<double>(columns) * kColumn) + 2 * kPadding,
         .height = static_cast<double>(lines.size()) * kLineHeight + kPadding});
  }
  for (const GraphEdge& edge : graph.edges) {
    picture.lines.push_back({.from = edge.from, .to = edge.to});
  }
  lay_out(picture, {});
  return picture;
}

std::string draw_line(const Line& line, const std::string& name) {
  if (line.points.size() < 2) {
    return "";
  }
  std::string path = fmt::format("M{:.1f} {:.1f}", line.points[0].x, line.points[0].y);
  for (size_t i = 1; i < line.points.size(); ++i) {
    const Point& a = line.points[i - 1];
    const Point& b = line.points[i];
    const double middle = (a.y + b.y) / 2;
    path += fmt::format(" C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}", a.x, middle, b.x, middle,
                        b.x, b.y);
  }
  std::string out = fmt::format("  <path d=\"{}\" marker-end=\"url(#arrow)\"/>\n", path);
  if (!name.empty()) {
    // Half-way down to the first bend, where lines of one box have parted.
    const Point& a = line.points[0];
    const Point& b = line.points[1];
    out += fmt::format("  <text class=\"edge\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                       (a.x + b.x) / 2, (a.y + b.y) / 2 + 3, escaped(name));
  }
  return out;
}

std::string draw_box(const GraphVertex& vertex, const Box& box) {
  const bool round = vertex.kind != GraphVertex::Kind::kNode;
  std::string out = fmt::format(
      "  <rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "rx=\"{}\"/>\n",
      class_of(vertex), box.at.x, box.at.y, box.width, box.height, round ? 12 : 3);
  double y = box.at.y + kLineHeight;
  bool first = true;
  for (const std::string& line : lines_of(vertex)) {
    out += fmt::format("  <text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                       first ? "name" : "detail", box.at.x + box.width / 2, y, escaped(line));
    first = false;
    y += kLineHeight;
  }
  return out;
}

constexpr std::string_view kHead =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
    "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"monospace\" font-size=\"12\" "
    "text-anchor=\"middle\">\n"
    "<style>\n"
    "  path {{ fill: none; stroke: #6b7280; stroke-width: 1.3 }}\n"
    "  rect {{ stroke: #4b5563; stroke-width: 1.2; fill: #f8fafc }}\n"
    "  rect.export {{ fill: #dbeafe; stroke: #1d4ed8 }}\n"
    "  rect.job {{ fill: #ffedd5; stroke: #c2410c }}\n"
    "  rect.device {{ fill: #dcfce7; stroke: #15803d }}\n"
    "  text {{ fill: #111827 }}\n"
    "  text.name {{ font-weight: bold }}\n"
    "  text.detail {{ fill: #4b5563 }}\n"
    "  text.edge {{ fill: #374151; font-size: 11px; stroke: white; stroke-width: 4px; "
    "paint-order: stroke }}\n"
    "</style>\n"
    "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
    "markerHeight=\"8\" orient=\"auto\"><polygon points=\"0,0.5 8,4 0,7.5\" "
    "fill=\"#6b7280\"/></marker></defs>\n"
    "<rect x=\"0\" y=\"0\" width=\"100%\" height=\"100%\" style=\"fill: white; stroke: none\"/>\n";

}  // namespace

std::string graph_svg(const NodeGraph& graph) {
  const Picture picture = picture_of(graph);
  std::string out = fmt::format(fmt::runtime(kHead), picture.width, picture.height);
  for (size_t i = 0; i < graph.edges.size(); ++i) {
    out += draw_line(picture.lines[i], graph.edges[i].name);
  }
  for (size_t i = 0; i < graph.vertices.size(); ++i) {
    out += draw_box(graph.vertices[i], picture.boxes[i]);
  }
  return out + "</svg>\n";
}

}  // namespace cairn::ctl
