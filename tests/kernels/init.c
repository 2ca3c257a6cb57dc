/* The first process of an emulated PC: does what /commands says, then ends the emulation.
 *
 * A line is a program with its arguments, after what is added to its environment (NAME=value). What the
 * program says goes to the second serial port, then a line of the byte 0x1e and its status, or what
 * signal ended it, negative. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { MOST = 20, SHUTDOWN = 0x8900 /* port of Bochs's own */ };

static void open_port(void)
{
    struct termios as;
    int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
    if (port < 0 || tcgetattr(port, &as) != 0)
        abort();
    cfmakeraw(&as);
    cfsetspeed(&as, B115200);
    tcsetattr(port, TCSANOW, &as);
    dup2(port, STDOUT_FILENO);
    dup2(port, STDERR_FILENO);
    close(port);
}

static int run(char *line)
{
    char *words[MOST + 1] = {NULL};
    int count = 0, status;
    for (char *word = strtok(line, " \n"); word != NULL && count < MOST; word = strtok(NULL, " \n"))
        words[count++] = word;
    pid_t pid = fork();
    if (pid == 0) {
        char **first = words;
        while (*first != NULL && strchr(*first, '=') != NULL)
            putenv(*first++);
        if (*first != NULL)
            execv(*first, first);
        perror(line);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int main(void)
{
    char line[500];
    FILE *commands = fopen("/commands", "r");
    if (commands == NULL)
        abort();
    open_port();
    /* Bochs counts a step for each byte that is stored or moved by one repeated instruction. */
    setenv("GLIBC_TUNABLES",
           "glibc.cpu.x86_rep_stosb_threshold=100000000:glibc.cpu.x86_rep_movsb_threshold=100000000", 1);
    while (fgets(line, sizeof line, commands) != NULL) {
        dprintf(STDOUT_FILENO, "\x1e%d\n", run(line));
        tcdrain(STDOUT_FILENO);
    }
    if (ioperm(SHUTDOWN, 1, 1) != 0)
        abort();
    for (const char *c = "Shutdown"; *c != '\0'; c++)
        outb((unsigned char)*c, SHUTDOWN);
    return 1;
}
