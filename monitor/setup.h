// What a command and the command line's option of the same purpose have in common.
#pragma once

#include "base/result.h"
#include "io/task.h"
#include "monitor/services.h"
#include "schema/types_block_export.h"
#include "schema/types_block_options.h"

namespace cairn::monitor {

// Makes a node that is known by its name. `services` and `options` outlive the tasks.
[[nodiscard]] io::Task<Result<void>> add_node(Services& services,
                                              const schema::BlockdevOptions& options);

// An I/O thread, for exports; whoever keeps it keeps it in use.
[[nodiscard]] Result<exports::Thread> find_thread(const objects::Registry& registry,
                                                  const std::string& id);

// nbd-server-add; asking for more than the node allows gets what it allows.
[[nodiscard]] io::Task<Result<void>> add_nbd_export(Services& services,
                                                    const schema::NbdServerAddOptions& options);

// Whether the authorization `id`, which is looked up anew each time, lets `identity` in.
[[nodiscard]] Result<void> authorize(const objects::Registry& registry, const std::string& id,
                                     const std::string& identity);

[[nodiscard]] io::Task<Result<void>> start_nbd_server(Services& services,
                                                      const schema::NbdServerOptions& options);
[[nodiscard]] io::Task<Result<void>> start_nbd_server(
    Services& services, const schema::NbdServerOptionsLegacy& options);

}  // namespace cairn::monitor
