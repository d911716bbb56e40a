package org.ferrowal;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URL;
import java.net.URLConnection;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/**
 * Loads the native library, once per class loader.
 *
 * <p>Tried in this order: the file that {@code -Dferrowal.native.path} names (nothing else is tried then);
 * {@code java.library.path}; the library inside the jar, copied to a private directory below
 * {@code -Dferrowal.native.tmpdir} or {@code java.io.tmpdir}. Each class loader gets a copy of its own, since the JVM
 * loads one file for one loader only; the copy is deleted as soon as it is loaded, so that a killed JVM leaves nothing,
 * unless {@code -Dferrowal.native.keep=true} (for profilers).
 *
 * <p>A failure is a {@link NativeLoadException}, a RuntimeException: Spark lets a LinkageError end its threads. The first
 * failure is kept and thrown again by every later call.
 */
final class NativeLibrary {
    private static final String NAME = "ferrowal";

    private static boolean loaded;
    private static NativeLoadException failure;

    private NativeLibrary() {
    }

    /** Loads the library, if that has not happened yet. */
    static synchronized void load() {
        if (loaded) {
            return;
        }
        if (failure != null) {
            throw failure;
        }
        try {
            find();
            handshake();
        } catch (NativeLoadException e) {
            failure = e;
            throw e;
        }
        loaded = true;
        NativeLog.start();
    }

    private static void find() {
        String explicit = System.getProperty("ferrowal.native.path");
        if (explicit != null) {
            Path file = new File(explicit).getAbsoluteFile().toPath();
            if (Files.isRegularFile(file)) {
                checkWhole(file);
            }
            try {
                System.load(file.toString());
            } catch (UnsatisfiedLinkError e) {
                throw failed("cannot load the native library that -Dferrowal.native.path=" + explicit
                    + " names: " + e.getMessage() + hint(e, explicit), e, List.of());
            }
            return;
        }
        List<Throwable> attempts = new ArrayList<>();
        for (String dir : System.getProperty("java.library.path", "").split(File.pathSeparator)) {
            Path file = new File(dir, System.mapLibraryName(NAME)).toPath();
            if (Files.isRegularFile(file)) {
                checkWhole(file);
                break;
            }
        }
        try {
            System.loadLibrary(NAME);
            return;
        } catch (UnsatisfiedLinkError e) {
            attempts.add(e);
        }
        fromJar(attempts);
    }

    private static void fromJar(List<Throwable> attempts) {
        String platform = platform();
        String resource = "/META-INF/native/" + platform + "/" + System.mapLibraryName(NAME);
        URL url = NativeLibrary.class.getResource(resource);
        if (url == null) {
            throw failed("ferrowal's jar holds no native library for " + platform + " (" + resource
                + "); tried java.library.path first: build one there with \"gradle jar\", or name one with"
                + " -Dferrowal.native.path", null, attempts);
        }
        String named = System.getProperty("ferrowal.native.tmpdir");
        String parent = named != null ? named : System.getProperty("java.io.tmpdir");
        Path dir = null;
        Path file = null;
        try {
            dir = Files.createTempDirectory(Paths.get(parent), "ferrowal-",
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
            file = dir.resolve(System.mapLibraryName(NAME));
            URLConnection connection = url.openConnection();
            // A cached jar file is shared with, and closed by, other class loaders.
            connection.setUseCaches(false);
            try (InputStream in = connection.getInputStream()) {
                Files.copy(in, file);
            }
            checkWhole(file);
            System.load(file.toString());
        } catch (IOException e) {
            throw failed("cannot copy the native library to a directory below " + parent + ": " + e
                + "; set -Dferrowal.native.tmpdir to a directory that this user can write to", e, attempts);
        } catch (UnsatisfiedLinkError e) {
            throw failed("cannot load the native library, copied from the jar to " + file + ": " + e.getMessage()
                + hint(e, parent), e, attempts);
        } finally {
            if (!Boolean.getBoolean("ferrowal.native.keep")) {
                delete(file);
                delete(dir);
            }
        }
    }

    /** A library that was cut off would kill the JVM in the system's loader, where nobody can catch it. */
    private static void checkWhole(Path file) {
        long missing;
        try {
            missing = ElfFile.missing(file);
        } catch (IOException e) {
            throw failed("cannot read the native library " + file + ": " + e, e, List.of());
        }
        if (missing > 0) {
            throw failed("the native library " + file + " is cut off: it lacks " + missing + " bytes of what its headers"
                + " name; copy or build it again", null, List.of());
        }
    }

    /** Whether what was loaded is the library that these classes were built with. */
    private static void handshake() {
        int found;
        try {
            found = Native.abi();
        } catch (UnsatisfiedLinkError e) {
            throw failed("the library that was loaded is not ferrowal's, or ferrowal's classes were relocated into"
                + " another package, which their native methods do not survive: " + e.getMessage(), e, List.of());
        }
        if (found != Native.ABI) {
            throw failed("the native library is of another version than the jar (it says " + found + ", the jar needs "
                + Native.ABI + "): remove older copies from -Dferrowal.native.path, java.library.path and the"
                + " class path", null, List.of());
        }
    }

    private static NativeLoadException failed(String message, Throwable cause, List<Throwable> attempts) {
        NativeLoadException exception = new NativeLoadException(message, cause);
        attempts.forEach(exception::addSuppressed);
        return exception;
    }

    /** What may help, told from what the system's loader said. */
    private static String hint(UnsatisfiedLinkError error, String place) {
        String said = String.valueOf(error.getMessage());
        if (said.contains("failed to map segment") || said.contains("Operation not permitted")) {
            return "; " + place + " seems to be on a volume mounted noexec: set -Dferrowal.native.tmpdir to a directory"
                + " that is not";
        }
        if (said.contains("GLIBC_")) {
            return "; this machine's C library is older than the one the library was built for: build the jar on the"
                + " oldest system that it must run on";
        }
        if (said.contains("ELF") || said.contains("Exec format") || said.contains("cannot open shared object")) {
            return "; the library may be for another architecture than this JVM's (" + platform() + ")";
        }
        return "";
    }

    /** Operating system and architecture, as they are named in the jar. */
    private static String platform() {
        String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
        String system = os.startsWith("linux") ? (onMusl() ? "linux_musl" : "linux")
            : os.startsWith("mac") ? "osx" : os.replaceAll("[^a-z0-9]", "");
        String processor = arch.equals("amd64") || arch.equals("x86_64") ? "x86_64"
            : arch.equals("aarch64") || arch.equals("arm64") ? "aarch_64" : arch;
        return system + "-" + processor;
    }

    /** Whether this JVM's C library is musl (Alpine): a library for the other one cannot be loaded. */
    private static boolean onMusl() {
        try (Stream<String> maps = Files.lines(Paths.get("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
            return isMusl(maps);
        } catch (IOException | UncheckedIOException e) {
            // Where that cannot be read it is most likely the other one; the system's loader says so if not.
            return false;
        }
    }

    /**
     * Whether what a process has mapped (/proc/PID/maps) has musl in it. Its C library and its loader are one file: Alpine has
     * it as ld-musl-PROCESSOR.so.1, others (Debian, Void) as libc.so, to which that name is a link, and maps have no links.
     * glibc's is libc.so.6, or libc-VERSION.so in old ones.
     */
    static boolean isMusl(Stream<String> maps) {
        return maps.anyMatch(line -> line.contains("/ld-musl-") || line.endsWith("/libc.so"));
    }

    private static void delete(Path path) {
        if (path == null) {
            return;
        }
        try {
            Files.deleteIfExists(path);
        } catch (IOException e) {
            // The library works; a file of a few hundred kilobytes is left behind, and said.
            System.getLogger("org.ferrowal").log(System.Logger.Level.WARNING, "cannot delete " + path, e);
        }
    }
}
