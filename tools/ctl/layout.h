// A layered layout of a graph: boxes in rows, edges downwards.
//
// The usual steps: each box gets the row below its lowest parent; edges that pass rows get a bend
// in each; rows are ordered so that few edges cross; boxes move towards the middle of what they
// are connected to.
#pragma once

#include <cstddef>
#include <vector>

namespace cairn::ctl {

struct Point {
  double x = 0;
  double y = 0;
};

struct Box {
  double width = 0;
  double height = 0;
  Point at{};  // the upper left corner
};

struct Line {
  size_t from = 0;
  size_t to = 0;
  std::vector<Point> points{};  // from the lower side of a box to the upper side of another
};

struct Picture {
  std::vector<Box> boxes;
  std::vector<Line> lines;
  double width = 0;
  double height = 0;
};

struct Spacing {
  double across = 24;  // between boxes of a row
  double down = 56;    // between rows
  double margin = 16;
};

// Sets `at` of all boxes, `points` of all lines, and the size. Boxes of a row do not overlap. Lines
// name boxes; one that closes a cycle goes upwards.
void lay_out(Picture& picture, const Spacing& spacing);

}  // namespace cairn::ctl
