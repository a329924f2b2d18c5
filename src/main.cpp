int kvlingua_main_placeholder() { return 0; }
