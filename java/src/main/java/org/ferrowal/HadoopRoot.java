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

    private static final AtomicLong LAST = new AtomicLong();
    private static final Map<Key, Long> NUMBERS = new ConcurrentHashMap<>();
    private static final Map<Long, HadoopRoot> ROOTS = new ConcurrentHashMap<>();
    private static final Map<Long, FSDataOutputStream> WRITING = new ConcurrentHashMap<>();
    private static final Map<Long, Reading> READING = new ConcurrentHashMap<>();

    private final Key key;
    private DistributedFileSystem system;

    /** What makes one root another: secrets may be in it. */
    private record Key(String scheme, String authority, Map<String, String> properties, UserGroupInformation user) {
        @Override
        public String toString() {
            return scheme + "://" + authority;
        }
    }

    /** A file that is read; opened anew where its stream fails. */
    private static final class Reading {
        private final String path;
        private FSDataInputStream in;

        Reading(String path, FSDataInputStream in) {
            this.path = path;
            this.in = in;
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
        switch ((int) job[HadoopThreads.WHAT]) {
            case 1 -> well(id, 0, system().getUri().toString());
            case 2 -> create(id, job, path, piece);
            case 3 -> write(id, job, file, piece);
            case 4 -> {
                close(file);
                well(id, 0);
            }
            case 5 -> open(id, path);
            case 6 -> read(id, job, file, piece);
            case 7 -> Native.jobAnswer(id, WELL, "", 0, list(new Path(path)));
            case 8 -> well(id, system().delete(new Path(path), true) ? 1 : 0);
            case 9 -> {
                recover(new Path(path));
                well(id, system().getFileStatus(new Path(path)).getLen());
            }
            case 10 -> seal(id, job, new Path(path), piece);
            case 11 -> put(id, job, new Path(path), piece);
            case 12 -> {
                try (FSDataInputStream in = openOrRecover(new Path(path))) {
                    fill(id, in, 0, job[HadoopThreads.ROOM], piece, new long[1]);
                }
                well(id, 0);
            }
            case 13 -> {
                system().mkdirs(new Path(path), DIRECTORY);
                well(id, 0);
            }
            case 14 -> well(id, rename(new Path(path), new Path(other)) ? 1 : 0);
            case 15 -> well(id, system().getFileStatus(new Path(path)).getModificationTime());
            default -> throw new IOException("no job of kind " + job[HadoopThreads.WHAT] + " is known");
        }
    }

    private static boolean well(long id, long number, String... names) {
        return Native.jobAnswer(id, WELL, "", number, names);
    }

    private synchronized DistributedFileSystem system() throws IOException, InterruptedException {
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

    private FSDataOutputStream begin(Path path, boolean overwrite) throws IOException, InterruptedException {
        // Not erasure coded, which has no hsync; blocks that end in the middle of a group are synced as well.
        return system().createFile(path).overwrite(overwrite).permission(FILE).replicate().syncBlock().build();
    }

    private void create(long id, long[] job, String path, byte[] piece) throws IOException, InterruptedException {
        FSDataOutputStream out = begin(new Path(path), false);
        boolean kept = false;
        long file = LAST.incrementAndGet();
        try {
            if (!out.hasCapability("hsync")) {
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
        READING.put(file, new Reading(path, in));
        if (!well(id, file, Long.toString(length(in, path)))) {
            close(file);
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
        Reading reading = READING.get(file);
        if (reading == null) {
            throw new IOException("the file is closed");
        }
        FSDataInputStream in;
        synchronized (reading) {
            in = reading.in;
        }
        long[] done = {0};
        try {
            fill(id, in, job[HadoopThreads.A], job[HadoopThreads.ROOM], piece, done);
        } catch (FileNotFoundException e) {
            throw e;
        } catch (IOException e) {
            // Its blocks may be elsewhere by now, which an older stream does not know.
            synchronized (reading) {
                if (reading.in == in) {
                    FSDataInputStream again = openOrRecover(new Path(reading.path));
                    closeQuietly(in);
                    reading.in = again;
                }
                in = reading.in;
            }
            fill(id, in, job[HadoopThreads.A], job[HadoopThreads.ROOM], piece, done);
        }
        well(id, done[0]);
    }

    /** Reads up to {@code room} bytes for a job, as far as the file goes, and from where it had come before. */
    private static void fill(long id, FSDataInputStream in, long from, long room, byte[] piece, long[] done)
        throws IOException {
        while (done[0] < room) {
            int length = in.read(from + done[0], piece, 0, (int) Math.min(piece.length, room - done[0]));
            if (length <= 0 || !Native.jobFill(id, done[0], piece, length)) {
                return;
            }
            done[0] += length;
        }
    }

    private void close(long file) {
        FSDataOutputStream out = WRITING.remove(file);
        if (out != null) {
            closeQuietly(out);
        }
        Reading reading = READING.remove(file);
        if (reading != null) {
            synchronized (reading) {
                closeQuietly(reading.in);
            }
        }
    }

    /** What was to be durable was made so, or failed, before. */
    private static void closeQuietly(AutoCloseable stream) {
        try {
            stream.close();
        } catch (Exception e) {
            System.getLogger("org.ferrowal").log(System.Logger.Level.DEBUG, "closing a file of HDFS", e);
        }
    }

    private String[] list(Path path) throws IOException, InterruptedException {
        List<String> names = new ArrayList<>();
        RemoteIterator<LocatedFileStatus> found = system().listLocatedStatus(path);
        while (found.hasNext()) {
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
        try (FSDataOutputStream out = begin(path, true)) {
            if (!copy(id, out, job[HadoopThreads.BYTES], piece)) {
                return;
            }
            if (job[HadoopThreads.BYTES] > 0) {
                out.hsync();
            }
        }
        well(id, system().getFileStatus(path).getModificationTime());
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
