// Services: what the commands of the monitor work on. The program owns all of it and outlives every
// session.
#pragma once

#include <functional>

#include "block/graph.h"
#include "chardev/registry.h"
#include "exports/export.h"
#include "exports/nbd/server.h"
#include "io/event.h"
#include "jobs/job_list.h"
#include "monitor/events.h"
#include "objects/registry.h"

namespace cairn::monitor {

// What is reported to standard error while it happens; all off unless --trace asks for it.
struct TraceSwitches {
  bool commands = false;
  bool replies = false;
  bool events = false;
};

struct Services {
  block::Graph& graph;
  exports::ExportRegistry& exports;
  nbd::Server& nbd_server;
  EventHub& events;
  chardev::Registry& chardevs;
  objects::Registry& objects;
  jobs::JobList& jobs;
  // Set by quit: the program is to end.
  io::Event& stop;
  TraceSwitches trace;
  // A command may use sockets that the program was started with: for those of its configuration.
  bool may_name_descriptors = false;
};

}  // namespace cairn::monitor
