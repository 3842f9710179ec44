/* Open MPI all-reduce for ring.ts: mpirun -np N ring-openmpi.
 *
 * Each line on rank 0's stdin, "<bytes> <operations>", is answered with one line of JSON on its stdout. Between orders
 * the other ranks poll and sleep: a blocking receive of Open MPI spins, and would take the processor from whoever is
 * measured in the meantime. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { period = 101, amplitude = 50 };

static float value(long index, int rank, int round) {
  return (float)((index % period * 31 + rank * 17 + round * 7) % period - amplitude);
}

/* False at the end of rank 0's stdin. */
static int next_order(int rank, int world_size, long order[2]) {
  if (rank == 0) {
    if (scanf("%ld %ld", &order[0], &order[1]) != 2) order[0] = order[1] = 0;
    for (int other = 1; other < world_size; other++) MPI_Send(order, 2, MPI_LONG, other, 0, MPI_COMM_WORLD);
  } else {
    for (int arrived = 0; !arrived; usleep(500)) MPI_Iprobe(0, 0, MPI_COMM_WORLD, &arrived, MPI_STATUS_IGNORE);
    MPI_Recv(order, 2, MPI_LONG, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  return order[1] > 0;
}

int main(int argc, char **argv) {
  int rank, world_size;
  long order[2];
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  while (next_order(rank, world_size, order)) {
    long count = order[0] / 4;
    float *buffer = malloc(order[0]);
    int right = 1, all_right;
    if (!buffer) MPI_Abort(MPI_COMM_WORLD, 1);
    if (rank == 0) printf("{\"ms\":[");
    for (int operation = 0; operation < order[1]; operation++) {
      for (long i = 0; i < count; i++) buffer[i] = value(i, rank, operation);
      MPI_Barrier(MPI_COMM_WORLD);
      double start = MPI_Wtime(), mine, slowest;
      MPI_Allreduce(MPI_IN_PLACE, buffer, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      mine = 1e3 * (MPI_Wtime() - start);
      MPI_Barrier(MPI_COMM_WORLD); /* nobody checks while another rank is still at work */
      float expected[period];
      for (int i = 0; i < period; i++) {
        expected[i] = 0;
        for (int other = 0; other < world_size; other++) expected[i] += value(i, other, operation);
      }
      for (long i = 0; i < count; i++) right &= buffer[i] == expected[i % period];
      MPI_Reduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
      if (rank == 0) printf("%s%.6f", operation ? "," : "", slowest);
    }
    MPI_Reduce(&right, &all_right, 1, MPI_INT, MPI_LAND, 0, MPI_COMM_WORLD);
    if (rank == 0) {
      printf("],\"checked\":%s}\n", all_right ? "true" : "false");
      fflush(stdout);
    }
    free(buffer);
  }
  MPI_Finalize();
  return 0;
}
