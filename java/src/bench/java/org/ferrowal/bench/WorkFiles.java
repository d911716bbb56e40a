package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;

/** What the benchmark does with the disk beside measuring it. */
final class WorkFiles {
    private WorkFiles() {
    }

    /**
     * Waits until the whole file system of a directory is written back (syncfs, by coreutils' {@code sync -f}).
     *
     * @return how many seconds that took; NaN if there is no such command here, and nothing was waited for
     */
    static double writeBack(Path directory) throws IOException, InterruptedException {
        long began = System.nanoTime();
        Process sync;
        try {
            sync = new ProcessBuilder("sync", "-f", directory.toString())
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        } catch (IOException e) {
            return Double.NaN; // Not installed: the table says that it was not done.
        }
        return sync.waitFor() == 0 ? (System.nanoTime() - began) / 1e9 : Double.NaN;
    }

    /** @throws BenchException if fewer bytes than that are free */
    static void needSpace(Path directory, long bytes) throws IOException {
        long free = Files.getFileStore(directory).getUsableSpace();
        if (free < bytes) {
            throw new BenchException(String.format("%.1f GB are free in %s, and %.1f GB are needed: free some, choose "
                + "another place with --dir, or ask for less with --rounds or --seconds", free / 1e9, directory,
                bytes / 1e9));
        }
    }

    /** Deletes a directory with all that is in it. A log may still delete files of its own meanwhile. */
    static void delete(Path directory) throws IOException {
        if (!Files.exists(directory)) {
            return;
        }
        Files.walkFileTree(directory, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                Files.deleteIfExists(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFileFailed(Path file, IOException e) throws IOException {
                if (e instanceof NoSuchFileException) {
                    return FileVisitResult.CONTINUE;
                }
                throw e;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path dir, IOException e) throws IOException {
                if (e != null) {
                    throw e;
                }
                Files.deleteIfExists(dir);
                return FileVisitResult.CONTINUE;
            }
        });
    }
}
