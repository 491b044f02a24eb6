"""Sessions about nodes: what they are made from, how they change, and what is told about them."""

import copy

from node_words import NodeWords

ENDING = [{"execute": "query-named-block-nodes"}, {"execute": "x-debug-query-block-graph"}, {"execute": "query-jobs"}]


class NodeSession:
    def __init__(self, words):
        self.words, self.nodes = words, NodeWords(words)
        self.added = []  # descriptions, for reopening
        self.job = 0

    def draw(self):
        steps = self.add()
        for _ in range(self.words.chooser.randrange(2, 10)):
            steps += self.words.pick(4 * [self.add] + 2 * [self.reopen, self.create, self.delete, self.resize]
                                     + [self.query, self.snapshot, self.inside, self.amend, self.change,
                                        self.threshold, self.backing_file, self.snapshot_file])()
        return steps + copy.deepcopy(ENDING)

    def add(self):
        description = {"node-name": self.nodes.new_name(), **self.nodes.description()}
        self.added.append(description)
        return [self.words.request_with("blockdev-add", description)]

    def delete(self):
        return [self.words.request("blockdev-del", node_name=self.nodes.node())]

    def reopen(self):
        options = [self._changed(description)
                   for description in self.words.chooser.sample(self.added, min(len(self.added), self.words.pick([1, 1, 1, 2])))]
        return [self.words.request("blockdev-reopen", options=options)]

    def _changed(self, description):
        """A description with other options, and at times other children."""
        description = copy.deepcopy(description)
        if isinstance(description.get("file"), dict) and self.words.chance(0.8):
            # Only nodes with a name can be referred to.
            description["file"] = description["file"].get("node-name", self.words.pick(["", None, self.nodes.node()]))
            if description["file"] is None:
                del description["file"]
        if self.words.chance(0.7):
            fresh = self.nodes.description(3, description["driver"]) if description["driver"] in (
                "raw", "qcow2", "luks", "vmdk") else self.nodes.common(3)
            fresh.pop("file", None)
            description.update(fresh)
        if self.words.chance(0.2):
            description["backing"] = self.words.pick([None, self.nodes.node(), ""])
        return description

    def create(self):
        self.job += 1
        name = f"j{self.job}" if not self.words.is_wrong(0.5) else self.words.pick(["", "j1", "a b", "x" * 300, "-"])
        request = self.words.request("blockdev-create", job_id=name, options=self.nodes.new_image())
        steps = [request, {"wait": [request.get("arguments", {}).get("job-id"), "concluded"]},
                 {"execute": "query-jobs"}]
        if self.words.chance(0.8):
            steps.append(self.words.request("job-dismiss", id=name))
        return steps

    def amend(self):
        self.job += 1
        request = self.words.request("x-blockdev-amend", job_id=f"j{self.job}", node_name=self.nodes.node(),
                                     options=self.nodes.amendment(), force=self.words.pick([None, None, True, False]))
        steps = [request, {"wait": [request.get("arguments", {}).get("job-id"), "concluded"]},
                 {"execute": "query-jobs"}]
        return [*steps, self.words.request("job-dismiss", id=f"j{self.job}")]

    def resize(self):
        size = self.words.pick([0, 512, 1000, 65536, 1 << 20, 2 << 20, 1536 << 10, -1, 1 << 60, 1])
        return [self.words.request("block_resize", node_name=self.nodes.node(), size=size,
                                   device="n1" if self.words.is_wrong(0.3) else None)]

    def query(self):
        return [self.words.pick([
            self.words.request("query-named-block-nodes", flat=self.words.pick([None, True, False])),
            self.words.request("query-blockstats", query_nodes=self.words.pick([None, True, False])),
            self.words.request("query-block"), self.words.request("x-debug-query-block-graph")])]

    def snapshot(self):
        overlay = self.nodes.node()
        steps = []
        if self.words.chance(0.6):
            overlay = self.nodes.new_name()
            description = {"node-name": overlay, "driver": self.words.pick(["qcow2", "qcow2", "vmdk"]), "backing": None,
                           "file": {"driver": "file", "filename": self.words.pick(["blank.qcow2", "b.qcow2", "over.vmdk"])}}
            self.added.append(description)
            steps.append(self.words.request_with("blockdev-add", description))
        return [*steps, self.words.request("blockdev-snapshot", node=self.nodes.node(), overlay=overlay)]

    def snapshot_file(self):
        name = self.nodes.new_name()
        return [self.words.request("blockdev-snapshot-sync", **self.words.pick([
            {"node_name": self.nodes.node()}, {"node_name": self.nodes.node()}, {"device": self.nodes.node()}, {}]),
            snapshot_file=self.words.pick(["new", "new.qcow2", "nosuch/x", "t.raw", "b.qcow2", "readonly.raw", "", "nbd://localhost:1/x"]),
            snapshot_node_name=self.words.pick([name, name, name, None]),
            format=self.words.pick([None, "qcow2", "qcow2", "raw", "vmdk", "nosuch", "file", "luks"]),
            mode=self.words.pick([None, "existing", "absolute-paths"]))]

    def inside(self):
        device = self.nodes.node()
        if self.words.chance(0.6):
            return [self.words.request("blockdev-snapshot-internal-sync", device=device,
                                       name=self.words.pick(["one", "new", "new", "", "two", "x" * 300, "1"]))]
        return [self.words.request("blockdev-snapshot-delete-internal-sync", device=device,
                                   id=self.words.pick([None, None, "1", "2", "9", ""]),
                                   name=self.words.pick([None, "one", "new", "two", ""]))]

    def change(self):
        return [self.words.request("x-blockdev-change", parent=self.nodes.node(),
                                   child=self.words.pick([None, "file", "backing", "children.0", "nosuch"]),
                                   node=self.words.pick([None, self.nodes.node()]))]

    def threshold(self):
        return [self.words.request("block-set-write-threshold", node_name=self.nodes.node(),
                                   write_threshold=self.words.pick([0, 1, 65536, 1 << 40, 1 << 63, -1]))]

    def backing_file(self):
        node = self.nodes.node()
        return [self.words.request("change-backing-file", device=self.words.pick([node, node, self.nodes.node()]),
                                   image_node_name=self.words.pick([node, node, self.nodes.node()]),
                                   backing_file=self.words.pick(["base.qcow2", "", "nosuch", "t.raw", "x" * 2000]))]


def draw(words):
    return NodeSession(words).draw()
