// CacheCleaner: gives memory of cached metadata back that nobody has used for a while, so that an
// image that was busy once does not stay as large as its caches may become.
#pragma once

#include "formats/qcow2/mapping.h"
#include "formats/qcow2/refcounts.h"
#include "io/reactor.h"

namespace cairn::qcow2 {

class CacheCleaner final : private io::TimerEntry {
 public:
  // Both must outlive the cleaner.
  CacheCleaner(Mapping& mapping, Refcounts& refcounts) : mapping_(mapping), refcounts_(refcounts) {}
  ~CacheCleaner() override { stop(); }

  // Has clean pages that were not used for a whole `interval` forgotten, from now on until stop().
  // On the thread of the image's reactor, as everything here. An interval of zero: never.
  void start(io::Duration interval);
  void stop();

 private:
  void on_expired() override;
  void arm();

  Mapping& mapping_;
  Refcounts& refcounts_;
  io::Duration interval_{};  // zero: not running
};

}  // namespace cairn::qcow2
