// What block-export-add says of an NBD export, checked, and with the bitmaps that it names found.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/node.h"
#include "exports/export.h"
#include "exports/nbd/nbd_export.h"

namespace cairn::schema {
struct BlockExportOptions;
}

namespace cairn::nbd {

// `root` is the edge of the export that is to be. A failure leaves nothing in use.
[[nodiscard]] Result<NbdView> make_view(const schema::BlockExportOptions& options,
                                        const exports::ExportSettings& settings,
                                        const block::Edge& root);

}  // namespace cairn::nbd
