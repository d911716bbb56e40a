package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/** What this process has in use, as Linux counts it. */
final class Self {
    private Self() {
    }

    /**
     * Memory outside of the Java heap that is resident, in bytes: native memory, direct buffers, the JVM itself. The heap is
     * touched as a whole where it is committed (-XX:+AlwaysPreTouch), so what it holds makes no difference.
     */
    static long outsideOfHeap() throws IOException {
        return resident() - Runtime.getRuntime().totalMemory();
    }

    private static long resident() throws IOException {
        try (Stream<String> lines = Files.lines(Path.of("/proc/self/status"))) {
            return lines.filter(line -> line.startsWith("VmRSS:")).findFirst()
                .map(line -> Long.parseLong(line.replaceAll("\\D", "")) << 10).orElse(0L);
        }
    }

    /** Open file descriptors. */
    static long descriptors() throws IOException {
        try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"))) {
            return open.count();
        }
    }
}
