package org.ferrowal.demo;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * One directory tree twice: as programs see it, and as it would be found after a power cut, if the kernel had written back
 * nothing of its own accord. A file's bytes and size become durable by a sync of the file, a name by a sync of its
 * directory; nothing else does. Real kernels do more, but POSIX promises no more.
 */
final class DiskModel {
    /** A file or a directory, whatever its name. */
    static final class Node {
        private final boolean directory;
        private final Map<String, Node> entries = new TreeMap<>();
        private Map<String, Node> durableEntries = Map.of();
        private final Bytes bytes = new Bytes();
        private final Bytes durableBytes = new Bytes();
        private final List<Range> unsynced = new ArrayList<>();

        private Node(boolean directory) {
            this.directory = directory;
        }

        /** Length in bytes as programs see it. */
        int size() {
            return bytes.size;
        }

        void write(int offset, byte[] data, boolean synced) {
            bytes.write(offset, data, data.length);
            if (synced) {
                durableBytes.write(offset, data, data.length);
            } else {
                unsynced.add(new Range(offset, data.length));
            }
        }

        void resize(int size) {
            bytes.resize(size);
        }

        /** What a sync that begins now will have made durable when it returns. */
        PendingSync beginSync() {
            if (directory) {
                return new PendingSync(this, new TreeMap<>(entries), List.of(), List.of(), 0);
            }
            List<byte[]> data = unsynced.stream().map(range -> bytes.copy(range)).toList();
            return new PendingSync(this, null, List.copyOf(unsynced), data, bytes.size);
        }
    }

    private record Range(int offset, int length) {
    }

    /** A sync that has begun. */
    record PendingSync(Node node, Map<String, Node> entries, List<Range> ranges, List<byte[]> data, int size) {
        void complete() {
            if (entries != null) {
                node.durableEntries = entries;
                return;
            }
            node.durableBytes.resize(size);
            for (int i = 0; i < ranges.size(); i++) {
                node.durableBytes.write(ranges.get(i).offset, data.get(i), data.get(i).length);
            }
            // By identity: an equal range that was written since is still unsynced.
            node.unsynced.removeIf(range -> ranges.stream().anyMatch(synced -> synced == range));
        }
    }

    /** Bytes that grow, with zeros in the gaps. */
    private static final class Bytes {
        private byte[] array = new byte[0];
        private int size;

        void write(int offset, byte[] data, int length) {
            if (offset + length > size) {
                resize(offset + length);
            }
            System.arraycopy(data, 0, array, offset, length);
        }

        void resize(int newSize) {
            if (newSize < size) {
                Arrays.fill(array, newSize, size, (byte) 0);
            } else if (newSize > array.length) {
                array = Arrays.copyOf(array, Math.max(newSize, 2 * array.length));
            }
            size = newSize;
        }

        byte[] copy(Range range) {
            // A range may have been cut off since by a smaller size.
            int end = Math.min(range.offset + range.length, size);
            return range.offset >= end ? new byte[0] : Arrays.copyOfRange(array, range.offset, end);
        }

        byte[] content() {
            return Arrays.copyOf(array, size);
        }
    }

    private final Path root;
    private final Node rootNode = new Node(true);

    /** A tree that is empty, and whose root is durable. */
    DiskModel(Path root) {
        this.root = root;
    }

    /** Whether the path is the root or below it. */
    boolean covers(Path path) {
        return path.startsWith(root);
    }

    Optional<Node> find(Path path) {
        Node node = rootNode;
        for (Path name : root.relativize(path)) {
            if (!name.toString().isEmpty()) {
                node = node.entries.get(name.toString());
                if (node == null) {
                    return Optional.empty();
                }
            }
        }
        return Optional.of(node);
    }

    /** The file at {@code path}, made if it is not there. */
    Node file(Path path) {
        return find(path).orElseGet(() -> add(path, new Node(false)));
    }

    void makeDirectory(Path path) {
        add(path, new Node(true));
    }

    void rename(Path from, Path to) {
        Node node = get(from);
        remove(from);
        add(to, node);
    }

    void exchange(Path one, Path other) {
        Node first = get(one);
        add(one, get(other));
        add(other, first);
    }

    void link(Path from, Path to) {
        add(to, get(from));
    }

    void remove(Path path) {
        get(path.getParent()).entries.remove(path.getFileName().toString());
    }

    private Node add(Path path, Node node) {
        get(path.getParent()).entries.put(path.getFileName().toString(), node);
        return node;
    }

    private Node get(Path path) {
        return find(path).orElseThrow(() ->
            new DemoException("The recorded system calls use " + path + ", which they never made"));
    }

    /** Writes the tree as a power cut now would leave it. */
    void writeDurable(Path target) throws IOException {
        writeDurable(rootNode, target);
    }

    private static void writeDurable(Node node, Path target) throws IOException {
        if (!node.directory) {
            Files.write(target, node.durableBytes.content());
            return;
        }
        Files.createDirectories(target);
        for (Map.Entry<String, Node> entry : node.durableEntries.entrySet()) {
            writeDurable(entry.getValue(), target.resolve(entry.getKey()));
        }
    }

    /**
     * Compares the tree, as programs see it, with the real one: a difference means that the recording missed something.
     * Where it is in doubt what the program did last, there is no comparison.
     */
    void compareWithReality(Set<Path> inDoubt) throws IOException {
        compare(rootNode, root, inDoubt);
    }

    private static void compare(Node node, Path real, Set<Path> inDoubt) throws IOException {
        boolean same;
        if (inDoubt.contains(real)) {
            same = true;
        } else if (node.directory) {
            try (Stream<Path> files = Files.list(real)) {
                TreeSet<String> names = new TreeSet<>(files.map(file -> file.getFileName().toString()).toList());
                same = names.equals(node.entries.keySet());
            }
        } else {
            same = Files.isRegularFile(real) && Arrays.equals(Files.readAllBytes(real), node.bytes.content());
        }
        if (!same) {
            throw new DemoException("The recorded system calls do not explain " + real
                + ": it was changed in a way that the recording does not see, so a power cut cannot be simulated from it");
        }
        for (Map.Entry<String, Node> entry : node.entries.entrySet()) {
            Path child = real.resolve(entry.getKey());
            if (Files.exists(child) || !inDoubt.contains(real)) {
                compare(entry.getValue(), child, inDoubt);
            }
        }
    }
}
