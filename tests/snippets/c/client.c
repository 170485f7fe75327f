/* nats.c with a token callback, as the README shows it; prints what it hears on orders.>. */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* README: begin */
/* Asked at every connect and reconnect; the text has to stay until the next time. */
static const char *token(void *closure)
{
    static char text[16384];
    (void)closure;
    FILE *command = popen(getenv("TOKEN_COMMAND"), "r"); /* az account get-access-token ... */
    size_t length = command == NULL ? 0 : fread(text, 1, sizeof text - 1, command);
    if (command != NULL) pclose(command);
    text[length] = '\0';
    return text;
}
/* README: end */

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *message, void *closure)
{
    (void)nc, (void)sub, (void)closure;
    printf("%.*s\n", natsMsg_GetDataLength(message), natsMsg_GetData(message));
    fflush(stdout);
    natsMsg_Destroy(message);
}

int main(void)
{
    natsConnection *nc = NULL;
    natsSubscription *sub = NULL;
    natsOptions *options = NULL;
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK) s = natsOptions_SetURL(options, getenv("NATS_URL"));
    if (s == NATS_OK) s = natsOptions_SetTokenHandler(options, token, NULL);
    if (s == NATS_OK) s = natsOptions_SetMaxReconnect(options, -1);
    if (s == NATS_OK) s = natsConnection_Connect(&nc, options);
    if (s == NATS_OK) s = natsConnection_Subscribe(&sub, nc, "orders.>", on_message, NULL);
    if (s != NATS_OK) {
        fprintf(stderr, "%s\n", natsStatus_GetText(s));
        return 1;
    }
    for (;;) pause();
}
