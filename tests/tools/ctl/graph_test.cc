// The graph of nodes: its forms, its layout, and rates from samples.
#include "tools/ctl/graph.h"

#include <gtest/gtest.h>

#include "schema/json_stream.h"
#include "tools/ctl/activity.h"
#include "tools/ctl/layout.h"

namespace cairn::ctl {
namespace {

schema::JsonValue json(std::string_view text) { return schema::parse_json(text).value(); }

// An export of an overlay; the file of the base is used twice.
NodeGraph overlay() {
  return make_graph(
             json(R"({"nodes": [
      {"id": 1, "type": "block-driver", "name": "top"},
      {"id": 2, "type": "block-driver", "name": "top-file"},
      {"id": 3, "type": "block-driver", "name": "base"},
      {"id": 4, "type": "block-driver", "name": "<base&file>"},
      {"id": 5, "type": "block-backend", "name": ""},
      {"id": 6, "type": "block-driver", "name": "spy"}],
    "edges": [
      {"parent": 1, "child": 3, "name": "backing"},
      {"parent": 1, "child": 2, "name": "file"},
      {"parent": 3, "child": 4, "name": "file"},
      {"parent": 6, "child": 4, "name": "file"},
      {"parent": 5, "child": 1, "name": "root"}]})"),
             json(R"([{"node-name": "top", "drv": "qcow2", "ro": false, "file": "/x/top.qcow2",
                       "image": {"virtual-size": 1073741824}},
                      {"node-name": "<base&file>", "drv": "file", "ro": true, "file": "/x/base.img",
                       "image": {"virtual-size": 1024}}])"),
             json(R"([{"id": "e", "type": "nbd", "node-name": "top", "shutting-down": false}])"))
      .value();
}

TEST(CtlGraph, TextIsATreeFromWhoUsesNodesDown) {
  EXPECT_EQ(graph_text(overlay()),
            "e  (nbd export)\n"
            "└─ top  (qcow2, 1 GiB)\n"
            "   ├─ file: top-file\n"
            "   └─ backing: base\n"
            "      └─ file: <base&file>  (file, 1 KiB, read-only)  base.img\n"
            "spy\n"
            "└─ file: <base&file>  (above)\n");
}

TEST(CtlGraph, ACycleIsShownOnce) {
  NodeGraph graph;
  graph.vertices.resize(2);
  graph.vertices[0].name = "a";
  graph.vertices[1].name = "b";
  graph.edges = {{.from = 0, .to = 1, .name = "x"}, {.from = 1, .to = 0, .name = "y"}};
  EXPECT_EQ(graph_text(graph), "a\n└─ x: b\n   └─ y: a  (see above)\n");
  EXPECT_NE(graph_svg(graph).find("</svg>"), std::string::npos);
}

TEST(CtlGraph, DotAndSvgEscapeNames) {
  NodeGraph graph = overlay();
  graph.vertices[0].name = "a\"b\\";
  EXPECT_NE(graph_dot(graph).find(R"(v0 [label="a\"b\\\nqcow2, 1 GiB"];)"), std::string::npos)
      << graph_dot(graph);
  const std::string svg = graph_svg(graph);
  EXPECT_NE(svg.find("&lt;base&amp;file&gt;"), std::string::npos);
  EXPECT_EQ(svg.find("<base"), std::string::npos);
}

TEST(CtlGraph, RefusesAnAnswerOfAnotherShape) {
  EXPECT_FALSE(make_graph(json("[]"), json("[]"), json("[]")));
  EXPECT_TRUE(make_graph(json(R"({"nodes": [1, {"id": "x"}], "edges": [{"parent": 7}]})"),
                         json("{}"), json("null")));
}

// A picture of boxes of the same size.
Picture boxes(size_t count, const std::vector<std::pair<size_t, size_t>>& lines) {
  Picture picture;
  picture.boxes.resize(count, {.width = 100, .height = 40});
  for (const auto& [from, to] : lines) {
    picture.lines.push_back({.from = from, .to = to});
  }
  lay_out(picture, {});
  return picture;
}

void expect_apart(const Picture& picture) {
  for (size_t i = 0; i < picture.boxes.size(); ++i) {
    const Box& a = picture.boxes[i];
    EXPECT_GE(a.at.x, 0);
    EXPECT_LE(a.at.x + a.width, picture.width);
    EXPECT_LE(a.at.y + a.height, picture.height);
    for (size_t k = i + 1; k < picture.boxes.size(); ++k) {
      const Box& b = picture.boxes[k];
      const bool beside = a.at.x + a.width <= b.at.x || b.at.x + b.width <= a.at.x;
      const bool above = a.at.y + a.height <= b.at.y || b.at.y + b.height <= a.at.y;
      EXPECT_TRUE(beside || above) << i << " and " << k;
    }
  }
}

TEST(CtlLayout, ParentsStandAboveTheirChildrenAndBoxesApart) {
  const Picture picture =
      boxes(8, {{0, 1}, {0, 2}, {1, 3}, {2, 3}, {0, 3}, {4, 3}, {5, 6}, {6, 7}, {5, 7}});
  expect_apart(picture);
  for (const Line& line : picture.lines) {
    const Box& from = picture.boxes[line.from];
    const Box& to = picture.boxes[line.to];
    EXPECT_LT(from.at.y, to.at.y);
    EXPECT_EQ(line.points.front().y, from.at.y + from.height);
    EXPECT_EQ(line.points.back().y, to.at.y);
    EXPECT_GE(line.points.front().x, from.at.x);
    EXPECT_LE(line.points.front().x, from.at.x + from.width);
  }
  // From 0 to 3 past the row between: one bend.
  EXPECT_EQ(picture.lines[4].points.size(), 3U);
}

TEST(CtlLayout, LinesThatNeedNotCrossDoNot) {
  const Picture picture = boxes(6, {{0, 5}, {1, 4}, {2, 3}});
  for (size_t i = 0; i < 3; ++i) {
    for (size_t k = i + 1; k < 3; ++k) {
      const bool left_above = picture.boxes[i].at.x < picture.boxes[k].at.x;
      const bool left_below = picture.boxes[5 - i].at.x < picture.boxes[5 - k].at.x;
      EXPECT_EQ(left_above, left_below);
    }
  }
}

TEST(CtlLayout, AChildStandsBelowTheMiddleOfItsParents) {
  const Picture picture = boxes(3, {{0, 2}, {1, 2}});
  EXPECT_NEAR(picture.boxes[2].at.x, (picture.boxes[0].at.x + picture.boxes[1].at.x) / 2, 0.5);
}

TEST(CtlLayout, TakesCyclesLoopsAndNothing) {
  expect_apart(boxes(3, {{0, 1}, {1, 2}, {2, 0}, {1, 1}}));
  EXPECT_GT(boxes(0, {}).width, 0);
}

TEST(CtlLayout, TakesALongChain) {
  std::vector<std::pair<size_t, size_t>> lines;
  for (size_t i = 0; i + 1 < 200; ++i) {
    lines.emplace_back(i, i + 1);
  }
  expect_apart(boxes(200, lines));
}

Sample sample_at(int seconds, int64_t progress, int64_t read, std::string_view status = "running") {
  Answers answers;
  answers.jobs = json(R"([{"id": "j", "type": "backup", "status": ")" + std::string(status) +
                      R"(", "current-progress": )" + std::to_string(progress) +
                      R"(, "total-progress": 1000}])");
  answers.block_jobs = json(R"([{"device": "j"}])");
  answers.nodes = json(R"([{"node-name": "n", "drv": "raw", "image": {"virtual-size": 4096}}])");
  answers.statistics = json(R"([{"node-name": "n", "stats": {"rd_bytes": )" + std::to_string(read) +
                            R"(, "rd_operations": 2}}])");
  answers.exports =
      json(R"([{"id": "e", "type": "nbd", "node-name": "n", "shutting-down": false}])");
  return make_sample(answers,
                     std::chrono::steady_clock::time_point(std::chrono::seconds(1000 + seconds)));
}

TEST(CtlActivity, RatesAreChangesOverTime) {
  Activity activity;
  activity.take(sample_at(0, 100, 0));
  EXPECT_FALSE(activity.job_rate("j"));
  EXPECT_FALSE(activity.node_rates("n"));
  EXPECT_EQ(activity.lines("T"),
            "T job j backup running 10% 100 B/0.977 KiB\n"
            "T export e nbd of n\n"
            "T node n raw: read 0 B in 2, written 0 B in 0\n");
  activity.take(sample_at(2, 300, 4096));
  EXPECT_DOUBLE_EQ(activity.job_rate("j").value(), 100);
  EXPECT_DOUBLE_EQ(activity.node_rates("n")->read_bytes, 2048);
  EXPECT_EQ(activity.lines("T"),
            "T job j backup running 30% 300 B/0.977 KiB, 100 B/s, 0:07 left\n"
            "T node n raw: read 4 KiB in 2, written 0 B in 0, now 2 KiB/s and 0 B/s\n");
  // It stalls: the rate sinks slowly, and it takes longer.
  activity.take(sample_at(5, 300, 4096));
  EXPECT_DOUBLE_EQ(activity.job_rate("j").value(), 50);
  EXPECT_DOUBLE_EQ(activity.node_rates("n")->read_bytes, 0);
  EXPECT_EQ(activity.lines("T"), "T job j backup running 30% 300 B/0.977 KiB, 50 B/s, 0:14 left\n")
      << "nodes and exports have nothing new";
}

TEST(CtlActivity, AScreenHasBarsForJobs) {
  Activity activity;
  activity.take(sample_at(0, 500, 0));
  activity.take(sample_at(1, 600, 0));
  const std::string screen = activity.screen({.width = 90});
  EXPECT_NE(screen.find("[##########--------]"), std::string::npos) << screen;
  EXPECT_NE(screen.find("60%  600 B of 0.977 KiB  100 B/s  0:04"), std::string::npos) << screen;
  EXPECT_NE(screen.find("EXPORT  TYPE  NODE"), std::string::npos);
  const std::string narrow = activity.screen({.width = 70});
  EXPECT_NE(narrow.find("60%  600 B of 0.977 KiB  100 B/s  0:04\n"), std::string::npos) << narrow;
}

TEST(CtlActivity, CountersThatBeganAgainAreNoNegativeRate) {
  Activity activity;
  activity.take(sample_at(0, 500, 8192));
  activity.take(sample_at(1, 10, 0));
  EXPECT_DOUBLE_EQ(activity.node_rates("n")->read_bytes, 0);
  EXPECT_DOUBLE_EQ(activity.job_rate("j").value(), 0);
}

TEST(CtlActivity, ProgressOfAJobWithNothingToDo) {
  EXPECT_EQ(progress_of({.status = "running"}), 0);
  EXPECT_EQ(progress_of({.status = "concluded"}), 1);
  EXPECT_EQ(progress_of({.status = "concluded", .error = "no"}), 0);
}

}  // namespace
}  // namespace cairn::ctl
