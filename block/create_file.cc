#include "block/create_file.h"

#include <cerrno>
#include <utility>

#include "block/driver_table.h"

namespace cairn::block {

io::Task<Result<void>> create_file(Graph& graph, std::string filename,
                                   const CreateOptions& options) {
  const DriverInfo* file = graph.drivers().find("file");
  if (file == nullptr || file->create == nullptr) {
    co_return fail(ENOTSUP, "This build can not create the file '{}'", filename);
  }
  CreateOptions file_options(file->create_options);
  for (const char* const name : {"nocow", "extent_size_hint"}) {
    if (const auto value = options.string(name)) {
      if (auto set = file_options.set(name, *value); !set) {
        co_return set;
      }
    }
  }
  co_return co_await file->create(graph, std::move(filename), file_options);
}

}  // namespace cairn::block
