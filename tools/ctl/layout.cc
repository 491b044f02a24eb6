#include "tools/ctl/layout.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

namespace cairn::ctl {

namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
constexpr int kOrderSweeps = 8;
constexpr int kMoveSweeps = 8;

// A box, or a bend of a line.
struct Vertex {
  size_t box = kNone;
  double width = 0;
  double x = 0;  // its middle
  size_t row = 0;
  std::vector<size_t> above;
  std::vector<size_t> below;
};

class Layers {
 public:
  Layers(Picture& picture, const Spacing& spacing) : picture_(picture), spacing_(spacing) {}

  void run() {
    add_boxes();
    set_rows();
    add_bends();
    order_rows();
    place();
    draw();
  }

 private:
  void add_boxes();
  void set_rows();
  void visit(size_t vertex, std::vector<uint8_t>& state, std::vector<size_t>& order);
  void add_bends();
  void order_rows();
  void sort_row(std::vector<size_t>& row, bool by_above);
  [[nodiscard]] size_t crossings() const;
  void place();
  void move_row(const std::vector<size_t>& row, bool by_above);
  void draw();
  [[nodiscard]] double port(size_t line, bool from) const;

  Picture& picture_;
  const Spacing& spacing_;
  std::vector<Vertex> vertices_;
  std::vector<bool> upwards_;                // lines that close a cycle
  std::vector<std::vector<size_t>> chains_;  // of each line: its vertices, from top to bottom
  std::vector<std::vector<size_t>> rows_;
};

void Layers::add_boxes() {
  for (size_t i = 0; i < picture_.boxes.size(); ++i) {
    vertices_.push_back({.box = i, .width = picture_.boxes[i].width});
  }
  upwards_.resize(picture_.lines.size());
}

// Depth first; `order` gets the vertices with all that is below a vertex before it.
void Layers::visit(size_t vertex, std::vector<uint8_t>& state, std::vector<size_t>& order) {
  constexpr uint8_t kOpen = 1;
  constexpr uint8_t kDone = 2;
  // Its own stack: a chain of images may be long.
  std::vector<std::pair<size_t, size_t>> stack{{vertex, 0}};
  state[vertex] = kOpen;
  while (!stack.empty()) {
    auto& [at, next] = stack.back();
    const size_t here = at;
    if (next == picture_.lines.size()) {
      state[here] = kDone;
      order.push_back(here);
      stack.pop_back();
      continue;
    }
    const size_t index = next++;
    const Line& line = picture_.lines[index];
    if (line.from != here) {
      continue;
    }
    if (state[line.to] == kOpen) {
      upwards_[index] = true;
    } else if (state[line.to] == 0) {
      state[line.to] = kOpen;
      stack.emplace_back(line.to, 0);
    }
  }
}

void Layers::set_rows() {
  std::vector<uint8_t> state(vertices_.size());
  std::vector<size_t> order;
  for (size_t i = 0; i < vertices_.size(); ++i) {
    if (state[i] == 0) {
      visit(i, state, order);
    }
  }
  std::ranges::reverse(order);
  for (const size_t at : order) {
    for (size_t i = 0; i < picture_.lines.size(); ++i) {
      const Line& line = picture_.lines[i];
      if (line.from == at && !upwards_[i]) {
        vertices_[line.to].row = std::max(vertices_[line.to].row, vertices_[at].row + 1);
      }
    }
  }
}

void Layers::add_bends() {
  for (size_t i = 0; i < picture_.lines.size(); ++i) {
    const Line& line = picture_.lines[i];
    const size_t top = upwards_[i] ? line.to : line.from;
    const size_t bottom = upwards_[i] ? line.from : line.to;
    std::vector<size_t>& chain = chains_.emplace_back();
    chain.push_back(top);
    for (size_t row = vertices_[top].row + 1; row < vertices_[bottom].row; ++row) {
      chain.push_back(vertices_.size());
      vertices_.push_back({.row = row});
    }
    if (bottom != top) {
      chain.push_back(bottom);
    }
    for (size_t k = 1; k < chain.size(); ++k) {
      vertices_[chain[k - 1]].below.push_back(chain[k]);
      vertices_[chain[k]].above.push_back(chain[k - 1]);
    }
  }
  for (size_t i = 0; i < vertices_.size(); ++i) {
    rows_.resize(std::max(rows_.size(), vertices_[i].row + 1));
    rows_[vertices_[i].row].push_back(i);
  }
}

void Layers::sort_row(std::vector<size_t>& row, bool by_above) {
  // With the place in the row, so that what is even stays in order.
  std::vector<std::tuple<double, size_t, size_t>> keys;
  for (size_t i = 0; i < row.size(); ++i) {
    const Vertex& vertex = vertices_[row[i]];
    const auto& others = by_above ? vertex.above : vertex.below;
    double sum = 0;
    for (const size_t other : others) {
      sum += vertices_[other].x;
    }
    keys.emplace_back(others.empty() ? vertex.x : sum / static_cast<double>(others.size()), i,
                      row[i]);
  }
  std::ranges::sort(keys);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = std::get<2>(keys[i]);
    vertices_[row[i]].x = static_cast<double>(i);
  }
}

size_t Layers::crossings() const {
  size_t count = 0;
  for (const auto& row : rows_) {
    std::vector<std::pair<double, double>> lines;
    for (const size_t at : row) {
      for (const size_t other : vertices_[at].below) {
        lines.emplace_back(vertices_[at].x, vertices_[other].x);
      }
    }
    for (size_t i = 0; i < lines.size(); ++i) {
      for (size_t k = i + 1; k < lines.size(); ++k) {
        count +=
            (lines[i].first - lines[k].first) * (lines[i].second - lines[k].second) < 0 ? 1 : 0;
      }
    }
  }
  return count;
}

// While rows are ordered, x is the place in the row.
void Layers::order_rows() {
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      vertices_[row[i]].x = static_cast<double>(i);
    }
  }
  auto best = rows_;
  size_t least = crossings();
  for (int sweep = 0; sweep < kOrderSweeps && least > 0; ++sweep) {
    const bool down = sweep % 2 == 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      sort_row(rows_[down ? i : rows_.size() - 1 - i], down);
    }
    if (const size_t count = crossings(); count < least) {
      least = count;
      best = rows_;
    }
  }
  rows_ = std::move(best);
}

void Layers::place() {
  for (const auto& row : rows_) {
    double x = 0;
    for (const size_t at : row) {
      vertices_[at].x = x + vertices_[at].width / 2;
      x += vertices_[at].width + spacing_.across;
    }
  }
  for (int sweep = 0; sweep < kMoveSweeps; ++sweep) {
    const bool down = sweep % 2 == 1;
    for (size_t i = 0; i < rows_.size(); ++i) {
      move_row(rows_[down ? i : rows_.size() - 1 - i], down);
    }
  }
}

// Moves each vertex as near to the middle of its neighbours as the distances in the row allow. With
// these taken off, wished places must not decrease; where they do, the ones concerned share their
// mean.
void Layers::move_row(const std::vector<size_t>& row, bool by_above) {
  struct Group {
    double sum;
    double count;
  };
  std::vector<double> offsets;
  std::vector<Group> groups;
  std::vector<size_t> members;
  double offset = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const Vertex& vertex = vertices_[row[i]];
    if (i > 0) {
      offset += vertices_[row[i - 1]].width / 2 + spacing_.across + vertex.width / 2;
    }
    offsets.push_back(offset);
    const auto& others = by_above ? vertex.above : vertex.below;
    double wish = vertex.x;
    if (!others.empty()) {
      wish = 0;
      for (const size_t other : others) {
        wish += vertices_[other].x / static_cast<double>(others.size());
      }
    }
    groups.push_back({.sum = wish - offset, .count = 1});
    members.push_back(1);
    while (groups.size() > 1) {
      const Group& last = groups.back();
      const Group& before = groups[groups.size() - 2];
      if (before.sum / before.count <= last.sum / last.count) {
        break;
      }
      groups[groups.size() - 2] = {.sum = before.sum + last.sum,
                                   .count = before.count + last.count};
      members[members.size() - 2] += members.back();
      groups.pop_back();
      members.pop_back();
    }
  }
  size_t next = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t k = 0; k < members[g]; ++k, ++next) {
      vertices_[row[next]].x = groups[g].sum / groups[g].count + offsets[next];
    }
  }
}

// Where a line leaves or enters its box: those of one side are spread over it, in the order of
// where they go.
double Layers::port(size_t line, bool from) const {
  const auto& chain = chains_[line];
  const size_t box = from ? chain.front() : chain.back();
  const size_t next = from ? chain[1] : chain[chain.size() - 2];
  size_t all = 0;
  size_t before = 0;
  for (size_t i = 0; i < chains_.size(); ++i) {
    const auto& other = chains_[i];
    if (other.size() < 2 || (from ? other.front() : other.back()) != box) {
      continue;
    }
    const double x = vertices_[from ? other[1] : other[other.size() - 2]].x;
    ++all;
    before += x < vertices_[next].x || (x == vertices_[next].x && i < line) ? 1 : 0;
  }
  const Vertex& vertex = vertices_[box];
  return vertex.x - vertex.width / 2 +
         vertex.width * static_cast<double>(before + 1) / static_cast<double>(all + 1);
}

void Layers::draw() {
  double left = std::numeric_limits<double>::max();
  double right = 0;
  for (const Vertex& vertex : vertices_) {
    left = std::min(left, vertex.x - vertex.width / 2);
  }
  std::vector<double> tops;
  std::vector<double> heights;
  double y = spacing_.margin;
  for (const auto& row : rows_) {
    double height = 0;
    for (const size_t at : row) {
      Vertex& vertex = vertices_[at];
      vertex.x += spacing_.margin - left;
      right = std::max(right, vertex.x + vertex.width / 2);
      if (vertex.box != kNone) {
        Box& box = picture_.boxes[vertex.box];
        box.at = {.x = vertex.x - vertex.width / 2, .y = y};
        height = std::max(height, box.height);
      }
    }
    tops.push_back(y);
    heights.push_back(height);
    y += height + spacing_.down;
  }
  picture_.width = right + spacing_.margin;
  picture_.height = rows_.empty() ? 2 * spacing_.margin : y - spacing_.down + spacing_.margin;
  for (size_t i = 0; i < picture_.lines.size(); ++i) {
    Line& line = picture_.lines[i];
    const auto& chain = chains_[i];
    line.points.clear();
    if (chain.size() < 2) {
      continue;
    }
    const Box& top = picture_.boxes[chain.front()];
    line.points.push_back({.x = port(i, true), .y = top.at.y + top.height});
    for (size_t k = 1; k + 1 < chain.size(); ++k) {
      const Vertex& bend = vertices_[chain[k]];
      line.points.push_back({.x = bend.x, .y = tops[bend.row] + heights[bend.row] / 2});
    }
    line.points.push_back({.x = port(i, false), .y = picture_.boxes[chain.back()].at.y});
    if (upwards_[i]) {
      std::ranges::reverse(line.points);
    }
  }
}

}  // namespace

void lay_out(Picture& picture, const Spacing& spacing) { Layers(picture, spacing).run(); }

}  // namespace cairn::ctl
