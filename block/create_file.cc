#include "block/create_file.h"

#include <cerrno>
#include <utility>

#include "block/driver_table.h"
#include "block/nbd_filename.h"

namespace cairn::block {

std::string_view creation_protocol(std::string_view filename) {
  return is_nbd_filename(filename) ? "nbd" : "file";
}

io::Task<Result<void>> create_file(Graph& graph, std::string filename,
                                   const CreateOptions& options) {
  const DriverInfo* protocol = graph.drivers().find(creation_protocol(filename));
  if (protocol == nullptr || protocol->create == nullptr) {
    co_return fail(ENOTSUP, "This build can not create the file '{}'", filename);
  }
  CreateOptions file_options(protocol->create_options);
  for (const char* const name : {"nocow", "extent_size_hint"}) {
    if (const auto value = options.string(name)) {
      if (auto set = file_options.set(name, *value); !set) {
        co_return set;
      }
    }
  }
  co_return co_await protocol->create(graph, std::move(filename), file_options);
}

}  // namespace cairn::block
