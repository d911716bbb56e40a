package org.ferrowal;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.security.PrivilegedExceptionAction;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.client.HdfsDataInputStream;
import org.apache.hadoop.hdfs.protocol.HdfsLocatedFileStatus;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.security.AccessControlException;
import org.apache.hadoop.security.UserGroupInformation;

/**
 * One Hadoop file system, for one user, with one configuration: what the native side's jobs are carried out with. Loaded
 * only where an {@code hdfs:} directory is used.
 *
 * <p>It has a file system of its own, which nobody else closes, not even Hadoop's shutdown hook: Spark's graceful stop
 * writes while the JVM ends.
 */
final class HadoopRoot {
    /** The keys by which the native side is told of a root, and of a weaker barrier. */
    static final String ROOT_KEY = "ferrowal.hadoop.root";
    static final String HFLUSH_KEY = "ferrowal.hadoop.hflush";

    /** Kinds of answers, as {@code src/jni/jobs.rs} has them. */
    private static final int WELL = 0;
    private static final int ABSENT = 1;
    private static final int EXISTS = 2;
    static final int OTHER = 3;
    private static final int REFUSED = 4;
    private static final int QUOTA = 5;
    private static final int DENIED = 6;

    private static final String BEST_EFFORT = "dfs.client.block.write.replace-datanode-on-failure.best-effort";
    private static final FsPermission DIRECTORY = new FsPermission((short) 0700);
    private static final FsPermission FILE = new FsPermission((short) 0600);
    /** A lease is asked for again after this long: until then its recovery is at work. */
    private static final long ASK_AGAIN_MILLIS = 5_000;
    private static final long LOOK_MILLIS = 50;
    private static final long RECOVERY_MILLIS = 50_000;

    private static final int CLOSE = 4;
    private static final byte[] NOTHING = new byte[0];

    private static final AtomicLong LAST = new AtomicLong();
    private static final Map<Key, Long> NUMBERS = new ConcurrentHashMap<>();
    private static final Map<Long, HadoopRoot> ROOTS = new ConcurrentHashMap<>();
    static final Map<Long, FSDataOutputStream> WRITING = new ConcurrentHashMap<>();
    private static final Map<Long, HadoopReading> READING = new ConcurrentHashMap<>();

    private final Key key;
    private volatile DistributedFileSystem system;

    /** What makes one root another: secrets may be in it. */
    private record Key(String scheme, String authority, Map<String, String> properties, UserGroupInformation user) {
        @Override
        public String toString() {
            return scheme + "://" + authority;
        }
    }

    private HadoopRoot(Key key) {
        this.key = key;
    }

    /**
     * The number of the root of a location, for the user that the calling thread acts as. Connects to nothing.
     *
     * @param location an {@code hdfs:} URI
     * @param properties keys of Hadoop's configuration, over those of its files
     */
    static long number(String location, Map<String, String> properties) {
        URI uri = URI.create(location);
        UserGroupInformation user;
        try {
            user = UserGroupInformation.getCurrentUser();
        } catch (IOException e) {
            throw new java.io.UncheckedIOException("cannot tell which user of Hadoop this is: " + e.getMessage(), e);
        }
        String authority = uri.getAuthority() == null ? "" : uri.getAuthority();
        Key key = new Key("hdfs", authority, Map.copyOf(properties), user);
        return NUMBERS.computeIfAbsent(key, k -> {
            long number = LAST.incrementAndGet();
            ROOTS.put(number, new HadoopRoot(k));
            return number;
        });
    }

    /** What the native side is told in place of Hadoop's keys, which it has no use for. */
    static Map<String, String> handedOn(String location, Map<String, String> properties) {
        Map<String, String> hadoop = new TreeMap<>(properties);
        Map<String, String> ours = new TreeMap<>();
        hadoop.keySet().removeIf(key -> {
            boolean own = key.startsWith("ferrowal.");
            if (own) {
                ours.put(key, properties.get(key));
            }
            return own;
        });
        ours.put(ROOT_KEY, Long.toString(number(location, hadoop)));
        return ours;
    }

    /** Carries out a job and answers it. */
    static void carryOut(long[] job, String[] paths, byte[] piece) {
        long id = job[HadoopThreads.ID];
        HadoopRoot root = ROOTS.get(job[HadoopThreads.ROOT]);
        try {
            if (root == null) {
                throw new IOException("there is no file system of number " + job[HadoopThreads.ROOT]);
            }
            root.key.user().doAs((PrivilegedExceptionAction<Void>) () -> {
                root.run(job, paths[0], paths[1], piece);
                return null;
            });
        } catch (Exception | LinkageError e) {
            Throwable cause = e instanceof java.lang.reflect.UndeclaredThrowableException && e.getCause() != null
                ? e.getCause() : e;
            if (cause instanceof RemoteException remote) {
                cause = remote.unwrapRemoteException();
            }
            Native.jobAnswer(id, kind(cause), text(cause), 0, null);
        }
    }

    private static int kind(Throwable e) {
        String name = e.getClass().getSimpleName();
        if (e instanceof FileNotFoundException) {
            return ABSENT;
        }
        if (e instanceof FileAlreadyExistsException || name.equals("AlreadyBeingCreatedException")) {
            return EXISTS;
        }
        if (e instanceof AccessControlException) {
            return DENIED;
        }
        if (name.endsWith("QuotaExceededException")) {
            return QUOTA;
        }
        return e instanceof Refused || e instanceof LinkageError ? REFUSED : OTHER;
    }

    /** The first line: Hadoop puts whole stack traces of the server into its messages. */
    private static String text(Throwable e) {
        if (e instanceof Refused) {
            return e.getMessage();
        }
        String said = String.valueOf(e.getMessage());
        int line = said.indexOf('\n');
        return e.getClass().getSimpleName() + ": " + (line < 0 ? said : said.substring(0, line));
    }

    /** A file system that no log can be in. */
    private static final class Refused extends IOException {
        private static final long serialVersionUID = 1L;

        Refused(String message) {
            super(message);
        }
    }

    private void run(long[] job, String path, String other, byte[] piece) throws IOException, InterruptedException {
        long id = job[HadoopThreads.ID];
        long file = job[HadoopThreads.FILE];
        // What may hang is behind it.
        if (job[HadoopThreads.WHAT] != CLOSE) {
            system();
        }
        if (!wanted(id) && job[HadoopThreads.WHAT] != CLOSE) {
            return;
        }
        switch ((int) job[HadoopThreads.WHAT]) {
            case 1 -> well(id, 0, system().getUri().toString());
            case 2 -> create(id, job, path, piece);
            case 3 -> write(id, job, file, piece);
            case CLOSE -> {
                close(file);
                well(id, 0);
            }
            case 5 -> open(id, path);
            case 6 -> read(id, job, file, piece);
            case 7 -> Native.jobAnswer(id, WELL, "", 0, list(id, new Path(path)));
            case 8 -> well(id, system().delete(new Path(path), true) ? 1 : 0);
            case 9 -> {
                recover(new Path(path));
                well(id, system().getFileStatus(new Path(path)).getLen());
            }
            case 10 -> seal(id, job, new Path(path), piece);
            case 11 -> put(id, job, new Path(path), piece);
            case 12 -> {
                try (FSDataInputStream in = openOrRecover(new Path(path))) {
                    HadoopReading.fill(in, 0, job[HadoopThreads.ROOM], piece, sink(id), new long[1]);
                }
                well(id, 0);
            }
            case 13 -> {
                system().mkdirs(new Path(path), DIRECTORY);
                well(id, 0);
            }
            case 14 -> well(id, rename(new Path(path), new Path(other)) ? 1 : 0);
            case 15 -> well(id, system().getFileStatus(new Path(path)).getModificationTime());
            case 16 -> {
                renew(new Path(path));
                well(id, system().getFileStatus(new Path(path)).getModificationTime());
            }
            default -> throw new IOException("no job of kind " + job[HadoopThreads.WHAT] + " is known");
        }
    }

    /** Whether somebody still waits: a call that nobody waits for is not begun. One that was begun may still be late. */
    private static boolean wanted(long id) {
        return Native.jobBytes(id, 0, NOTHING) >= 0;
    }

    private static HadoopReading.Sink sink(long id) {
        return (at, bytes, length) -> Native.jobFill(id, at, bytes, length);
    }

    private static boolean well(long id, long number, String... names) {
        return Native.jobAnswer(id, WELL, "", number, names);
    }

    /** Nobody who has it waits for somebody who connects. */
    private DistributedFileSystem system() throws IOException, InterruptedException {
        DistributedFileSystem connected = system;
        return connected == null ? connect() : connected;
    }

    private synchronized DistributedFileSystem connect() throws IOException, InterruptedException {
        if (system == null) {
            Configuration conf = new Configuration();
            key.properties().forEach(conf::set);
            conf.setBoolean("fs.automatic.close", false);
            // As long as nobody says otherwise: a cluster as small as its replication has no DataNode to take a dead one's
            // place, and every write after its death would fail.
            String[] sources = conf.getPropertySources(BEST_EFFORT);
            if (sources == null || Arrays.asList(sources).contains("hdfs-default.xml")) {
                conf.setBoolean(BEST_EFFORT, true);
            }
            URI uri = key.authority().isEmpty() ? FileSystem.getDefaultUri(conf) : URI.create(key.toString());
            FileSystem found = FileSystem.newInstance(uri, conf);
            if (!(found instanceof DistributedFileSystem)) {
                String kind = found.getClass().getName();
                found.close();
                throw new Refused(key + " is not HDFS but " + kind + ": the log needs leases, by which it keeps an older"
                    + " writer out; give an hdfs: URI with the name node's host, or the name of its service");
            }
            system = (DistributedFileSystem) found;
        }
        return system;
    }

    private FSDataOutputStream begin(Path path) throws IOException, InterruptedException {
        // Not erasure coded, which has no hsync; blocks that end in the middle of a group are synced as well.
        return system().createFile(path).overwrite(false).permission(FILE).replicate().syncBlock().build();
    }

    private void create(long id, long[] job, String path, byte[] piece) throws IOException, InterruptedException {
        FSDataOutputStream out = begin(new Path(path));
        boolean kept = false;
        long file = LAST.incrementAndGet();
        try {
            if (!out.hasCapability("hsync")) {
                system().delete(new Path(path), false);
                throw new Refused(key + " has files that cannot be made durable (they lack hsync): no log can be there");
            }
            WRITING.put(file, out);
            if (copy(id, out, job[HadoopThreads.BYTES], piece)) {
                out.hsync();
                kept = well(id, file);
            }
        } finally {
            if (!kept) {
                WRITING.remove(file);
                closeQuietly(out);
            }
        }
    }

    private void write(long id, long[] job, long file, byte[] piece) throws IOException {
        FSDataOutputStream out = WRITING.get(file);
        if (out == null) {
            throw new IOException("the file is closed");
        }
        if (out.getPos() != job[HadoopThreads.A]) {
            throw new IOException("the file ends at " + out.getPos() + ", not at " + job[HadoopThreads.A]);
        }
        if (!copy(id, out, job[HadoopThreads.BYTES], piece)) {
            return;
        }
        switch ((int) job[HadoopThreads.B]) {
            case 1 -> out.hsync();
            case 2 -> out.hflush();
            default -> { }
        }
        well(id, 0);
    }

    /** Writes a job's bytes. Whether somebody still waits for that: otherwise what was written is cut off. */
    private static boolean copy(long id, OutputStream out, long bytes, byte[] piece) throws IOException {
        for (long at = 0; at < bytes; ) {
            int length = Native.jobBytes(id, at, piece);
            if (length <= 0) {
                return false;
            }
            out.write(piece, 0, length);
            at += length;
        }
        return true;
    }

    private void open(long id, String path) throws IOException, InterruptedException {
        FSDataInputStream in = openOrRecover(new Path(path));
        long file = LAST.incrementAndGet();
        boolean kept = false;
        try {
            long length = length(in, path);
            READING.put(file, new HadoopReading(in, () -> openOrRecover(new Path(path))));
            kept = well(id, file, Long.toString(length));
        } finally {
            if (!kept) {
                READING.remove(file);
                closeQuietly(in);
            }
        }
    }

    private long length(FSDataInputStream in, String path) throws IOException, InterruptedException {
        return in instanceof HdfsDataInputStream hdfs ? hdfs.getVisibleLength()
            : system().getFileStatus(new Path(path)).getLen();
    }

    /**
     * Opens a file to its last byte. Where no DataNode knows how long its last block is, since all of them were restarted
     * while it was written, its lease is taken first.
     */
    private FSDataInputStream openOrRecover(Path path) throws IOException, InterruptedException {
        try {
            return system().open(path);
        } catch (IOException e) {
            if (!e.getClass().getSimpleName().equals("CannotObtainBlockLengthException")) {
                throw e;
            }
            recover(path);
            return system().open(path);
        }
    }

    private void read(long id, long[] job, long file, byte[] piece) throws IOException, InterruptedException {
        HadoopReading reading = READING.get(file);
        if (reading == null) {
            throw new IOException("the file is closed");
        }
        well(id, reading.read(job[HadoopThreads.A], job[HadoopThreads.ROOM], piece, sink(id)));
    }

    /** Closes a file. Fails where one that was written is not closed in the name node: its lease must be taken then. */
    static void close(long file) throws IOException {
        HadoopReading reading = READING.remove(file);
        if (reading != null) {
            reading.close();
        }
        FSDataOutputStream out = WRITING.remove(file);
        if (out != null) {
            out.close();
        }
    }

    /** What was to be durable was made so, or failed, before. */
    static void closeQuietly(AutoCloseable stream) {
        try {
            stream.close();
        } catch (Exception e) {
            System.getLogger("org.ferrowal").log(System.Logger.Level.DEBUG, "closing a file of HDFS", e);
        }
    }

    private String[] list(long id, Path path) throws IOException, InterruptedException {
        List<String> names = new ArrayList<>();
        RemoteIterator<LocatedFileStatus> found = system().listLocatedStatus(path);
        // Each open file takes a while.
        while (wanted(id) && found.hasNext()) {
            LocatedFileStatus status = found.next();
            String kind = status.isDirectory() ? "d" : "f";
            long length = status.getLen();
            if (status instanceof HdfsLocatedFileStatus hdfs && hdfs.isFile()
                && hdfs.getLocatedBlocks() != null && hdfs.getLocatedBlocks().isUnderConstruction()) {
                kind = "w";
                try (FSDataInputStream in = openOrRecover(status.getPath())) {
                    length = length(in, status.getPath().toString());
                } catch (FileNotFoundException e) {
                    continue;
                }
            }
            names.add(length + " " + status.getModificationTime() + " " + kind + " " + status.getPath().getName());
        }
        return names.toArray(new String[0]);
    }

    /** Takes a file's lease, and waits until its length is fixed. */
    private void recover(Path path) throws IOException, InterruptedException {
        DistributedFileSystem hdfs = system();
        long until = System.nanoTime() + RECOVERY_MILLIS * 1_000_000;
        while (!hdfs.isFileClosed(path)) {
            if (hdfs.recoverLease(path)) {
                return;
            }
            long again = System.nanoTime() + ASK_AGAIN_MILLIS * 1_000_000;
            while (System.nanoTime() < again && !hdfs.isFileClosed(path)) {
                if (System.nanoTime() > until) {
                    throw new IOException("the lease of " + path + " could not be taken within " + RECOVERY_MILLIS
                        + " ms: are its DataNodes up?");
                }
                Thread.sleep(LOOK_MILLIS);
            }
        }
    }

    private void seal(long id, long[] job, Path path, byte[] piece) throws IOException, InterruptedException {
        recover(path);
        if (!wanted(id)) {
            return;
        }
        DistributedFileSystem hdfs = system();
        long at = job[HadoopThreads.A];
        FileStatus status = hdfs.getFileStatus(path);
        if (status.getLen() < at) {
            throw new IOException(path + " has " + status.getLen() + " bytes, and its footer belongs at " + at);
        }
        if (status.getLen() > at && !hdfs.truncate(path, at)) {
            // The last block is cut in the background, and has no writer until it is.
            recover(path);
        }
        FSDataOutputStream out = hdfs.append(path);
        try {
            if (copy(id, out, job[HadoopThreads.BYTES], piece)) {
                out.hsync();
            }
        } finally {
            out.close();
        }
        well(id, 0);
    }

    private void put(long id, long[] job, Path path, byte[] piece) throws IOException, InterruptedException {
        try (FSDataOutputStream out = begin(path)) {
            if (!copy(id, out, job[HadoopThreads.BYTES], piece)) {
                return;
            }
            if (job[HadoopThreads.BYTES] > 0) {
                out.hsync();
            }
        }
        well(id, system().getFileStatus(path).getModificationTime());
    }

    /** Gives a file the name node's time by appending nothing to it. What is not there is not made. */
    private void renew(Path path) throws IOException, InterruptedException {
        FSDataOutputStream out;
        try {
            out = system().append(path);
        } catch (IOException e) {
            if (kind(e instanceof RemoteException remote ? remote.unwrapRemoteException() : e) != EXISTS) {
                throw e;
            }
            // An earlier append, of which the answer was lost, still has it open.
            recover(path);
            out = system().append(path);
        }
        out.close();
    }

    private boolean rename(Path from, Path to) throws IOException, InterruptedException {
        // Into a directory of that name would be a success as well.
        try {
            system().getFileStatus(to);
            return false;
        } catch (FileNotFoundException e) {
            return system().rename(from, to);
        }
    }
}
