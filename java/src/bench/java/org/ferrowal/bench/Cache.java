package org.ferrowal.bench;

import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Makes files cold. Java cannot (posix_fadvise is not in it), so the tools of the system do it. */
final class Cache {
    private static final long SECONDS = 120;

    private Cache() {
    }

    /** How it is done, for the report. */
    static final String WORDS = "each file is synced and dropped from the page cache (dd oflag=nocache conv=notrunc,fdatasync "
        + "count=0, which is posix_fadvise DONTNEED)";

    /**
     * Drops all files below a directory from the page cache, and checks with {@code fincore}, where there is one, that it
     * worked.
     *
     * @throws BenchException if it did not
     */
    static void drop(Path directory) throws IOException, InterruptedException {
        for (Path file : files(directory)) {
            run(List.of("dd", "of=" + file, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"));
        }
        long resident = 0;
        for (Path file : files(directory)) {
            String pages = output(List.of("fincore", "--bytes", "--raw", "--noheadings", "--output", "RES", file.toString()));
            resident += pages.isBlank() ? 0 : Long.parseLong(pages.strip());
        }
        long all = size(directory);
        if (resident > all / 50) {
            throw new BenchException(resident + " of " + all + " bytes are still in the page cache: not cold");
        }
    }

    /** All files below a directory. A log may rename and delete files of its own meanwhile. */
    static List<Path> files(Path directory) throws IOException {
        List<Path> files = new ArrayList<>();
        Files.walkFileTree(directory, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                files.add(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFileFailed(Path file, IOException e) throws IOException {
                if (e instanceof NoSuchFileException) {
                    return FileVisitResult.CONTINUE;
                }
                throw e;
            }
        });
        return files;
    }

    /** Bytes in them. */
    static long size(Path directory) throws IOException {
        long bytes = 0;
        for (Path file : files(directory)) {
            try {
                bytes += Files.size(file);
            } catch (NoSuchFileException e) {
                continue; // Renamed or deleted since.
            }
        }
        return bytes;
    }

    private static void run(List<String> command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes()).strip();
        if (!process.waitFor(SECONDS, TimeUnit.SECONDS) || process.exitValue() != 0) {
            throw new BenchException(String.join(" ", command) + ": " + said);
        }
    }

    /** Nothing where there is no such program. */
    private static String output(List<String> command) throws IOException, InterruptedException {
        try {
            Process process = new ProcessBuilder(new ArrayList<>(command)).redirectErrorStream(false).start();
            String said = new String(process.getInputStream().readAllBytes());
            return process.waitFor() == 0 ? said : "";
        } catch (IOException e) {
            return "";
        }
    }
}
