# REDIS_URL=redis://127.0.0.1 sh publish.sh 'hello'
redis-cli -u "$REDIS_URL" XADD chat MAXLEN '~' 10000 '*' event said data "$1"
