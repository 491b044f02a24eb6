#include "tests/sim/plan.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "base/bytes.h"

namespace cairn::testing {
namespace {

Qcow2Shape draw_shape(Random& random) {
  // Small clusters bring many tables, and with them many updates of tables, into a small image.
  constexpr unsigned kBits[] = {9, 10, 11, 12, 13, 14, 16, 18, 21};
  constexpr unsigned kWeights[] = {34, 14, 8, 18, 6, 6, 11, 2, 1};
  Qcow2Shape shape;
  shape.cluster_bits = kBits[random.weighted(kWeights)];
  shape.version = random.chance(80) ? 3 : 2;
  if (shape.version == 3) {
    shape.refcount_order = random.chance(40) ? 4 : static_cast<uint32_t>(random.below(7));
    shape.zstd = random.chance(15);
    if (shape.cluster_bits >= 13 && random.chance(50)) {
      shape.cluster_bits = std::max(shape.cluster_bits, 14U);
      shape.extended_l2 = true;
    }
  }
  return shape;
}

uint64_t draw_size(const Qcow2Shape& shape, Random& random) {
  const uint64_t cluster = shape.cluster_size();
  // As a rule a few dozen clusters; with small ones now and then enough to outgrow the tables that
  // a new image has.
  uint64_t clusters = random.between(1, shape.cluster_bits <= 12 ? 120 : 24);
  if (shape.cluster_bits <= 10 && random.chance(15)) {
    clusters = random.between(500, 4000);
  }
  if (shape.cluster_bits >= 18) {
    clusters = random.between(1, 4);
  }
  uint64_t size = clusters * cluster;
  if (random.chance(30)) {  // the last cluster is a part of one
    size -= align_down(random.below(cluster), 512);
  }
  return size;
}

FileTraits draw_traits(Random& random) {
  FileTraits traits;
  traits.limits.native_fua = random.chance(60);
  traits.limits.request_alignment = random.chance(70) ? 1 : random.pick({512U, 512U, 4096U});
  // The alignment of memory is the allocator's, not the seed's; tests of the engine look at it.
  if (random.chance(15)) {
    traits.limits.max_transfer = random.pick({4096U, 65536U});
  }
  traits.can_zero = random.chance(80);
  traits.can_discard = random.chance(85);
  if (random.chance(10)) {
    traits.limits.zero_alignment = random.pick({512U, 4096U});
    traits.limits.discard_alignment = random.pick({512U, 4096U});
  }
  return traits;
}

Round draw_round(const SimOptions& options, Random& random, const Plan& plan) {
  Round round;
  const uint64_t cluster = plan.format == Plan::Format::kRaw ? 4096 : plan.shape.cluster_size();
  round.operations = static_cast<unsigned>(random.between(5, cluster >= 65536 ? 40 : 90));
  round.concurrency = static_cast<unsigned>(random.pick({1, 2, 4, 8, 16}));
  round.pause = plan.delay * static_cast<int>(random.below(3));
  round.commits = plan.backing > 0 && random.chance(50);
  const uint64_t fate = options.plant == Plant::kLyingFlush ? 50 : random.below(100);
  if (fate < 30) {
    return round;
  }
  if (fate < 75) {
    round.ending = Round::Ending::kPowerCut;
    round.cut_while_opening = random.chance(5);
    return round;
  }
  round.ending = Round::Ending::kFaults;
  const uint64_t rules = random.between(1, 2);
  for (uint64_t i = 0; i < rules; ++i) {
    FaultRule rule;
    if (random.chance(70)) {
      rule.kind = random.pick({IoKind::kRead, IoKind::kWrite, IoKind::kWrite, IoKind::kWrite,
                               IoKind::kFlush, IoKind::kZero, IoKind::kDiscard, IoKind::kResize});
    }
    rule.after = random.below(uint64_t{2} * round.operations);
    rule.times = random.pick({uint64_t{1}, uint64_t{1}, uint64_t{3}, UINT64_MAX});
    rule.error = random.chance(50) ? EIO : ENOSPC;
    rule.torn = random.chance(50);
    round.faults.push_back(rule);
  }
  return round;
}

void draw_weights(Plan::Weights& weights, Random& random) {
  switch (random.below(9)) {
    case 0:  // much comes and goes, and what went may be used again after every flush
      weights = {.read = 30,
                 .write = 30,
                 .zero = 15,
                 .discard = 20,
                 .flush = 20,
                 .status = 2,
                 .resize = 0,
                 .compressed = 10,
                 .snapshot = 2,
                 .amendment = 0,
                 .bitmap = 2,
                 .alone = 0};
      break;
    case 1:  // nothing but writes and flushes
      weights = {.read = 10,
                 .write = 80,
                 .zero = 0,
                 .discard = 0,
                 .flush = 10,
                 .status = 0,
                 .resize = 0,
                 .compressed = 0,
                 .snapshot = 0,
                 .amendment = 0,
                 .bitmap = 0,
                 .alone = 0};
      break;
    case 2:
      weights.resize = 8;
      break;
    case 3:
      weights.snapshot = 15;
      break;
    case 4:
      weights.amendment = 10;
      weights.alone = 4;
      break;
    case 5:
      weights.bitmap = 20;
      break;
    case 6:
      weights.alone = 12;
      break;
    default:
      break;
  }
}

}  // namespace

Plan draw_plan(const SimOptions& options, Random& random) {
  Plan plan;
  plan.format = random.chance(93) ? Plan::Format::kQcow2 : Plan::Format::kRaw;
  plan.shape = draw_shape(random);
  plan.size = draw_size(plan.shape, random);
  plan.shape.size = plan.size;
  if (plan.format == Plan::Format::kQcow2) {
    plan.backing = static_cast<unsigned>(random.pick({0, 0, 0, 1, 1, 2}));
  }
  plan.raw_base = random.chance(40);
  plan.populated = random.chance(50);
  plan.traits = draw_traits(random);
  if (plan.format == Plan::Format::kRaw) {
    // A file whose end is not aligned grows when its last block is written.
    plan.size = align_up(plan.size, std::max(512U, plan.traits.limits.request_alignment));
  }
  plan.traits.keeps_flush = options.plant != Plant::kLyingFlush;
  plan.delay = std::chrono::microseconds(random.pick({1, 10, 100}));
  plan.straggling = random.pick({4U, 16U, 64U, 250U});
  plan.discard_unmap = random.chance(80);
  plan.detect_zeroes = random.chance(15);
  plan.discard_no_unref = random.chance(8) && plan.shape.version == 3;
  plan.pass_discard_other = random.chance(40);
  if (random.chance(50)) {
    plan.l2_cache = plan.shape.cluster_size() * random.between(1, 4);
    plan.refcount_cache = plan.shape.cluster_size() * random.between(1, 4);
  }
  draw_weights(plan.weights, random);
  const uint64_t rounds = random.between(1, 3);
  for (uint64_t i = 0; i < rounds; ++i) {
    plan.rounds.push_back(draw_round(options, random, plan));
  }
  plan.shape.lazy_refcounts = random.chance(20) && plan.shape.version == 3;
  plan.overlap_check_all = random.chance(20);
  if (plan.format == Plan::Format::kQcow2 && plan.shape.version == 3 && random.chance(15)) {
    plan.shape.data_file = "top.data";
    plan.shape.data_file_raw = plan.backing == 0 && random.chance(50);
    // What such images do not have.
    plan.weights.snapshot = 0;
    plan.weights.compressed = 0;
  }
  return plan;
}

std::string Plan::describe() const {
  std::string text =
      format == Format::kRaw
          ? fmt::format("raw, {} bytes", size)
          : fmt::format(
                "qcow2 v{}, {} bytes in clusters of {}, {}-bit {}refcounts, {} below{}{}{}{}{}{}",
                shape.version, size, shape.cluster_size(), 1U << shape.refcount_order,
                shape.lazy_refcounts ? "lazy " : "", backing,
                backing > 0 && raw_base ? " (the lowest raw)" : "", populated ? ", populated" : "",
                shape.zstd ? ", zstd" : "", shape.extended_l2 ? ", subclusters" : "",
                shape.external_data() ? ", data file" : "", shape.data_file_raw ? " (raw)" : "");
  text += fmt::format("; align {}{}{}{}", traits.limits.request_alignment,
                      traits.limits.native_fua ? ", fua" : "", traits.can_zero ? ", zero" : "",
                      traits.can_discard ? ", discard" : "");
  text += fmt::format("; {}{}{}{}{}caches {}/{}; rounds:", discard_unmap ? "unmap, " : "",
                      detect_zeroes ? "detect-zeroes, " : "",
                      discard_no_unref ? "discard-no-unref, " : "",
                      pass_discard_other ? "pass-discard-other, " : "",
                      overlap_check_all ? "overlap-check=all, " : "", l2_cache, refcount_cache);
  constexpr const char* kEndings[] = {"clean", "power cut", "faults"};
  for (const Round& round : rounds) {
    text += fmt::format(" {} operations by {} ({})", round.operations, round.concurrency,
                        kEndings[static_cast<int>(round.ending)]);
  }
  return text;
}

}  // namespace cairn::testing
