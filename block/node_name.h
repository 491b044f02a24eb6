// Naming nodes: what their images are called in messages, in queries and in headers of overlays.
#pragma once

namespace cairn::schema {
struct BlockdevOptions;
}

namespace cairn::block {

class Node;

// Sets the node's description and its filename, after its driver has opened it with `options`. The
// filename is a plain one where opening that would lead to the same image, else "json:" and the
// description. `chain_wanted` is false when the image's backing file was left out on purpose, which
// is then no part of the name.
void name_node(Node& node, const schema::BlockdevOptions& options, bool chain_wanted);

}  // namespace cairn::block
