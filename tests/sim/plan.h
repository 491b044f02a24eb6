// Plan: everything that a seed decides about a history before it starts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/backend.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/random.h"
#include "tests/support/simulated_world.h"

namespace cairn::testing {

// Faults that are planted to see whether the simulator finds them.
enum class Plant : uint8_t {
  kNone,
  kLyingFlush,  // the disk acknowledges flushes and FUA and does nothing
  kEarlyReuse,  // space is handed out again while requests still use it
};

struct SimOptions {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  bool trace = false;
  // Lets qemu-img judge the image after every round, too.
  bool ask_qemu = false;
  // A directory for the images as they were when something was found; empty: none.
  std::string save_to = {};
};

struct Round {
  enum class Ending : uint8_t { kClean, kPowerCut, kFaults };
  Ending ending = Ending::kClean;
  unsigned operations = 0;
  unsigned concurrency = 1;
  // The longest usual pause between two operations; compare with Plan::delay.
  io::Duration pause{};
  bool cut_while_opening = false;
  bool commits = false;  // the image below is open for writing, too
  std::vector<FaultRule> faults;
};

// Kinds of operations, in the order of Plan::Weights.
enum class Operation : uint8_t {
  kRead,
  kWrite,
  kZero,
  kDiscard,
  kFlush,
  kStatus,
  kResize,
  kCompressed,
  kSnapshot,
  kAmendment,
  kBitmap,
  kAlone,
};

struct Plan {
  enum class Format : uint8_t { kQcow2, kRaw };
  Format format = Format::kQcow2;
  Qcow2Shape shape;         // of the top image; kQcow2
  uint64_t size = 0;        // guest bytes of the top image
  unsigned backing = 0;     // images below
  bool raw_base = false;    // the lowest of them is a raw file
  bool populated = false;   // the top image starts with content
  FileTraits traits;        // of the top image's file
  io::Duration delay{};     // the longest usual time of a step of a request
  unsigned straggling = 1;  // how many times that the unusual ones take
  bool discard_unmap = true;
  bool detect_zeroes = false;
  bool discard_no_unref = false;
  bool pass_discard_other = false;
  bool overlap_check_all = false;
  uint64_t l2_cache = 0;        // bytes; 0: the default
  uint64_t refcount_cache = 0;  // bytes; 0: the default
  // How likely each kind of operation is.
  struct Weights {
    unsigned read = 25;
    unsigned write = 40;
    unsigned zero = 12;
    unsigned discard = 10;
    unsigned flush = 6;
    unsigned status = 5;
    unsigned resize = 2;
    unsigned compressed = 5;
    unsigned snapshot = 2;
    unsigned amendment = 2;
    unsigned bitmap = 5;
    unsigned alone = 2;  // a commit, or an amendment that the image has to be opened again for
  } weights;
  std::vector<Round> rounds;

  [[nodiscard]] std::string describe() const;
};

[[nodiscard]] Plan draw_plan(const SimOptions& options, Random& random);

}  // namespace cairn::testing
