# In a mount namespace of its own (unshare -m): put a fresh /dev in place, then run the command.
#   private_dev.sh GPUS MODE COMMAND...
gpus=$1
mode=$2
shift 2
mount -t tmpfs tmpfs /mnt || exit 125
mkdir /mnt/dev /mnt/dev/shm /mnt/dev/pts
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /mnt/dev/
ln -s /proc/self/fd /mnt/dev/fd
if [ "$gpus" -gt 0 ]; then
    mknod -m "$mode" /mnt/dev/nvidiactl c 195 255
    mknod -m "$mode" /mnt/dev/nvidia-uvm c 511 0
    number=0
    while [ "$number" -lt "$gpus" ]; do
        mknod -m "$mode" "/mnt/dev/nvidia$number" c 195 "$number"
        number=$((number + 1))
    done
fi
mount --bind /mnt/dev /dev || exit 125
exec "$@"
