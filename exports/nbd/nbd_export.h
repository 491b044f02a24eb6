// NbdExport: one node as NBD clients see it: its name, its offer, and who uses it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/dirty_bitmap.h"
#include "exports/export.h"
#include "exports/nbd/negotiation.h"
#include "io/event.h"
#include "io/task.h"

namespace cairn::nbd {

class Connection;
class NbdExport;
class Station;

// Where exports are looked up; owned by the server, outlives its exports.
class ExportList final : public ExportDirectory {
 public:
  void add(NbdExport& entry) { entries_.push_back(&entry); }
  void remove(NbdExport& entry);
  // Null when there is none.
  [[nodiscard]] NbdExport* find(std::string_view name) const;

  // ExportDirectory
  [[nodiscard]] bool find(std::string_view name, ExportOffer& offer) const override;
  [[nodiscard]] std::vector<ExportOffer> list() const override;

  // Whether clients may use several connections to one export.
  void set_multi_conn(bool on) { multi_conn_ = on; }
  [[nodiscard]] bool multi_conn() const { return multi_conn_; }

 private:
  std::vector<NbdExport*> entries_;
  bool multi_conn_ = true;
};

// A dirty bitmap that clients may look at. While it exists nobody can change the bitmap, nor take
// its node away.
struct ExportedBitmap {
  std::unique_ptr<block::Edge> holder;
  const block::DirtyBitmap* bitmap;
  block::DirtyBitmap::Use use;  // gone before the holder
};

// What a client sees of an export, apart from the node.
struct NbdView {
  std::string name;
  std::string description;
  bool allocation_depth = false;
  std::vector<ExportedBitmap> bitmaps;
};

class NbdExport final : public exports::Export {
 public:
  // Adds itself to `list` until it is closed.
  NbdExport(ExportList& list, exports::ExportSettings settings, std::unique_ptr<block::Edge> root,
            NbdView view, std::shared_ptr<Station> station);
  ~NbdExport() override;

  [[nodiscard]] const std::string& name() const { return view_.name; }
  [[nodiscard]] ExportOffer offer() const;
  // Where its clients are served; it is there as long as one of them.
  [[nodiscard]] Station& station() const { return *station_; }
  // By its place in the offer.
  [[nodiscard]] const block::DirtyBitmap& bitmap(std::size_t index) const {
    return *view_.bitmaps[index].bitmap;
  }

  // A connection that uses the export, from the end of its handshake on. Nothing when the export is
  // being closed. The connection stays known until it calls leave().
  [[nodiscard]] bool enter(Connection& connection);
  void leave(Connection& connection);

  // Export
  [[nodiscard]] bool in_use() const override { return !users_.empty(); }

 private:
  io::Task<void> close() override;

  ExportList& list_;
  NbdView view_;
  const std::shared_ptr<Station> station_;
  std::vector<Connection*> users_;
  io::Event unused_;  // set when it is closed and the last user has left
  bool listed_ = true;
};

}  // namespace cairn::nbd
